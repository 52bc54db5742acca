"""`clusterctl ssh` and `clusterctl py-spy`: a person goes to a host, or to where a rank is."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from clusterctl.cli import options
from clusterctl.errors import ClusterctlError, UsageError


def command(
    wanted: Annotated[str, typer.Argument(metavar="HOST|RUN:RANK", help=":3 is rank 3 of the newest run.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND]...", help="One text for a shell there, or the words of a command."),
    ] = None,
    hostfile: options.Hostfile = "",
    cluster_name: options.Cluster = "",
    ssh_config: options.SshConfig = "",
) -> None:
    """Open a shell on HOST, or run COMMAND there, by the same SSH configuration as every other verb.

    RUN:RANK: in the directory of a rank that runs, with its variables; no part of the run, which neither
    waits for it nor ends it. The exit code is that of ssh.
    """
    from clusterctl.session import ssh

    at = ssh.place(wanted)
    words = words[1:] if words and words[0] == "--" else words
    terminal = sys.stdin.isatty() and not words
    if at is not None:
        if hostfile or cluster_name or ssh_config:
            raise UsageError("a run has its own hosts", hint="leave out the options of hosts")
        _become(ssh.to_rank(at, words or (), terminal=terminal))
    from clusterctl.session.cluster import Cluster

    cluster = Cluster.from_hostfile(hostfile, ssh_config=ssh_config, cluster=cluster_name)
    _become(ssh.to_host(cluster.target, wanted, words or (), terminal=terminal))


def spy_command(
    wanted: Annotated[str, typer.Argument(metavar="RUN:RANK", help=":3 is rank 3 of the newest run.")],
) -> int:
    """Print what every Python thread of a rank does now.

    By `py-spy dump` on its host; where py-spy is not installed, or may not look at other processes, by what
    the rank itself shows, which is said. Exit code 4: neither shows anything; 3: the rank is gone.
    """
    from clusterctl.cli import screen
    from clusterctl.report.harmless import plain_lines
    from clusterctl.session import ssh

    at = ssh.place(wanted)
    if at is None:
        raise UsageError(f"{wanted} names no rank", hint="RUN:RANK, or :0 for rank 0 of the newest run")
    argv, program = ssh.spying(at)
    try:
        with screen.err().status(f"looking at rank {at.rank} on {at.host}"):
            told = subprocess.run(argv, input=program, capture_output=True, check=False)
    except OSError as error:
        raise _no_ssh(error) from error
    for console, data in ((screen.err(), told.stderr), (screen.out(), told.stdout)):
        if data:
            console.print(plain_lines(data.rstrip(b"\n"), colours=False))
    return told.returncode


def _become(argv: list[str]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        raise _no_ssh(error) from error


def _no_ssh(error: OSError) -> ClusterctlError:
    return ClusterctlError(f"ssh cannot be started: {error.strerror}", hint="apt install openssh-client")

"""`clusterctl ssh` and `clusterctl py-spy`: a person goes to a host, or to where a rank is."""

from __future__ import annotations

import os
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
) -> None:
    """Print what every Python thread of a rank does now: `py-spy dump` on its host.

    py-spy must be in the environment that trains, and the host must allow it to look at processes of the same
    user (kernel.yama.ptrace_scope 0, or root). Exit code 4: py-spy is not there; 3: the rank is gone.
    """
    from clusterctl.session import ssh

    at = ssh.place(wanted)
    if at is None:
        raise UsageError(f"{wanted} names no rank", hint="RUN:RANK, or :0 for rank 0 of the newest run")
    _become(ssh.to_rank(at, (), terminal=False, spy=True))


def _become(argv: list[str]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        raise ClusterctlError(
            f"ssh cannot be started: {error.strerror}", hint="apt install openssh-client"
        ) from error

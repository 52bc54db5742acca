"""The last resort where the kernel refuses namespaces: several sshd on addresses of the loopback network.

The hosts share everything with this machine; what a network check says about them means nothing.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil

from clusterctl.errors import ClusterctlError
from clusterctl.sandbox import state
from clusterctl.sandbox.addresses import WiredNetwork, WiredNic
from clusterctl.sandbox.spec import HostSpec
from clusterctl.sandbox.sshd import SshServer, server_config
from clusterctl.sandbox.state import Places, SandboxState
from clusterctl.settings import SANDBOX

_POLL = 0.02
MARK = "CLUSTERCTL_SANDBOX"


def addresses(
    hosts: Sequence[HostSpec],
) -> tuple[tuple[WiredNetwork, ...], tuple[tuple[WiredNic, ...], ...]]:
    """127.0.0.2 and up on lo, whatever cards were asked for."""
    network = WiredNetwork(name="loopback", bridge="", subnet="127.0.0.0/8", controller="127.0.0.1")
    cards = (
        WiredNic(
            name="lo",
            network="loopback",
            bridge="",
            port="",
            mac="",
            address=f"127.0.0.{index}",
            prefix=8,
            mtu=None,
        )
        for index in range(2, len(hosts) + 2)
    )
    return (network,), tuple((card,) for card in cards)


def start(places: Places, recorded: SandboxState, server: SshServer) -> SandboxState:
    """Start one sshd per host, recording each before the next. Raises ClusterctlError."""
    session = recorded.session | {MARK: str(places.directory)}
    for index, host in enumerate(recorded.hosts):
        directory = places.host(host.name)
        pid_file = directory / "sshd.pid"
        (directory / "sshd_config").write_text(
            server_config(
                server,
                port=host.port,
                address=host.address,
                host_key=directory / "host_key",
                authorized_keys=places.authorized_keys,
                pid_file=str(pid_file),
                session=session,
            ),
            encoding="utf-8",
        )
        process = subprocess.Popen(
            [*host.sshd, "-D"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            # The mark also finds a server that was started and not yet recorded when `up` was killed.
            env=server.environment | {MARK: session[MARK]}, cwd="/", start_new_session=True,
        )  # fmt: skip
        known = state.identity(process.pid)
        hosts = list(recorded.hosts)
        hosts[index] = msgspec.structs.replace(host, pid=known.pid, start=known.start)
        recorded = msgspec.structs.replace(recorded, hosts=tuple(hosts))
        state.save(places, recorded)
        _wait_for(process, pid_file, directory / "sshd.log", host.name)
    recorded = msgspec.structs.replace(recorded, phase="running")
    state.save(places, recorded)
    return recorded


def _wait_for(process: subprocess.Popen[bytes], pid_file: Path, log: Path, name: str) -> None:
    deadline = time.monotonic() + SANDBOX.down_timeout
    while not pid_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip() if log.exists() else ""
            raise ClusterctlError(
                f"{name}: sshd does not start: {said.splitlines()[-1] if said else 'it left no message'}",
                hint="as root it needs the system's own openssh-server package (its user and /run/sshd)",
            )
        time.sleep(_POLL)


def end_sessions(places: Places) -> None:
    """End its servers and whatever was started over SSH: all bear the sandbox's mark in their environment."""
    marked = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(places.directory):
                process.kill()
                marked.append(process)
        except (psutil.Error, OSError):
            # Gone by now, or somebody else's, whose environment nobody may read.
            continue
    _, left = psutil.wait_procs(marked, SANDBOX.down_timeout)
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        raise ClusterctlError(f"process {pids} of the sandbox does not end", hint="try `down` again")

"""The ProxyCommand of an ordinary user's sandbox: ``helper.py proxy_command STATE HOST``.

The user's machine has no route to the hosts (that would take privileges), so this joins the host's network
namespace, connects to its sshd and carries bytes between that and its own stdin and stdout. The pid is
looked up each time: a sandbox may have been brought up again since the ssh_config was read.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from clusterctl.sandbox import enter_host, kernel

_CHUNK = 1 << 16


def main(arguments: Sequence[str]) -> int:
    """Carry one connection. Returns 1 with a sentence on stderr when the host cannot be reached."""
    state_file, name = arguments
    try:
        state = json.loads(Path(state_file).read_text(encoding="utf-8"))
        holder = state["holder"]
        host = next(host for host in state["hosts"] if host["name"] == name)
        if kernel.start_time(holder["pid"]) != holder["start"]:
            raise ProcessLookupError("its first process is gone")
        # From the switch, over the wire: a link that is down or a firewall must be felt here too.
        enter_host.join(holder["pid"], network_only=True)
        link = socket.create_connection((host["nics"][0]["address"], host["port"]))
    except (OSError, StopIteration, KeyError, ValueError) as error:
        sys.stderr.write(f"sandbox: no way to {name}: {error}\n")
        return 1
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        _carry(link)
    except (BrokenPipeError, ConnectionResetError):
        return 1
    return 0


def _carry(link: socket.socket) -> None:
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(link, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == 0:
                data = os.read(0, _CHUNK)
                if not data:
                    poll.unregister(0)
                    link.shutdown(socket.SHUT_WR)
                    continue
                link.sendall(data)
            else:
                data = link.recv(_CHUNK)
                if not data:
                    return
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(1, rest) :]

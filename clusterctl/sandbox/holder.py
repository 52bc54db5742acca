"""The first process of a sandbox: it owns the switch, and every host is its descendant.

It is PID 1 of a pid namespace that contains the hosts' own pid namespaces, so ending this one process ends
everything in the sandbox, whatever state it is in: the kernel sees to it. Standard library only.

Speaks with `up` over stdin and stdout, one JSON line each: it says its pid, waits until that pid has
been recorded (the plan arrives), builds, and says which process is each host's first one, or the error.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clusterctl.sandbox import host_init, kernel

ETHERNET = 1500
JUMBO = 9216
"""MTU of the switch and its ports: like a real switch, larger than what any host sets."""


def main(arguments: Sequence[str]) -> int:
    """Leave the user's namespaces and leave the rest to a child that is PID 1 of the new ones."""
    mode, directory = arguments
    uid, gid = os.getuid(), os.getgid()
    flags = kernel.NEW_NET | kernel.NEW_NS | kernel.NEW_PID | kernel.NEW_UTS | kernel.NEW_IPC
    try:
        if mode == "user":
            kernel.unshare(flags | kernel.NEW_USER)
            kernel.map_one_user(0, 0, uid, gid)
        else:
            kernel.unshare(flags)
    except OSError as error:
        _say({"error": f"the kernel refuses namespaces: {error}"})
        return 1
    if os.fork() == 0:
        _hold(Path(directory))
    return 0


def _hold(directory: Path) -> None:
    os.setsid()
    # /proc still belongs to the user's pid namespace: it tells the pid that `up` and `down` know.
    pid = int(Path("/proc/self").readlink().name)
    _say({"pid": pid})
    line = sys.stdin.readline()
    if not line:
        os._exit(1)
    plan = json.loads(line)
    try:
        hosts = _build(plan)
    except (OSError, RuntimeError) as error:
        _say({"error": str(error)})
        os._exit(1)
    _say({"hosts": hosts})
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    host_init.reap_while(lambda: _recorded(directory / "state.json", pid))
    os._exit(0)


def _recorded(state: Path, pid: int) -> bool:
    """False once `down` could no longer find this process: somebody removed the sandbox's files by hand."""
    try:
        return bool(json.loads(state.read_bytes())["holder"]["pid"] == pid)
    except (FileNotFoundError, TypeError):
        return False
    except (OSError, ValueError):
        # The disk is in trouble, which is no reason to end what runs.
        return True


def _build(plan: dict[str, Any]) -> list[dict[str, Any]]:
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    lines: list[tuple[dict[str, Any], socket.socket]] = []
    for host in plan["hosts"]:
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            for _, other in lines:
                other.close()
            ours.close()
            _start_host(plan, host, theirs)
        theirs.close()
        lines.append((host, ours))
    readers = [line.makefile("r", encoding="utf-8") for _, line in lines]
    first: list[dict[str, Any]] = []
    for (host, _), reader in zip(lines, readers, strict=True):
        known: dict[str, Any] = {}
        while not {"inner", "pid"} <= known.keys():
            known |= _answer(host, reader.readline())
        first.append(known)
    _wire(plan, [int(known["inner"]) for known in first])
    for _, line in lines:
        line.sendall(b"go\n")
    for (host, line), reader in zip(lines, readers, strict=True):
        _answer(host, reader.readline())
        reader.close()
        line.close()
    return [{"name": host["name"], "pid": k["pid"]} for (host, _), k in zip(lines, first, strict=True)]


def _start_host(plan: dict[str, Any], host: dict[str, Any], line: socket.socket) -> None:
    """A host's namespaces. Entering a pid namespace takes one more fork: only children live in it."""
    try:
        kernel.unshare(kernel.NEW_NET | kernel.NEW_UTS | kernel.NEW_IPC | kernel.NEW_NS | kernel.NEW_PID)
    except OSError as error:
        host_init.tell(line, {"error": str(error)})
        os._exit(1)
    child = os.fork()
    if child == 0:
        host_init.run(plan, host, line)
    host_init.tell(line, {"inner": child})
    os._exit(0)


def _answer(host: dict[str, Any], text: str) -> dict[str, Any]:
    if not text:
        raise RuntimeError(f"{host['name']}: its first process ended during set-up")
    answer: dict[str, Any] = json.loads(text)
    if "error" in answer:
        raise RuntimeError(f"{host['name']}: {answer['error']}")
    return answer


def _wire(plan: dict[str, Any], pids: Sequence[int]) -> None:
    """One bridge per network, one cable per network card, all in a single run of `ip`."""
    orders = ["link set lo up"]
    for network in plan["networks"]:
        orders.append(f"link add {network['bridge']} type bridge")
        if network["address"]:
            orders.append(
                f"addr add {network['address']}/{network['prefix']} broadcast + dev {network['bridge']}"
            )
        orders.append(f"link set {network['bridge']} mtu {JUMBO} up")
    if plan["uplink"]:
        orders.append(f"link set {plan['uplink']} mtu {JUMBO} master {plan['networks'][0]['bridge']} up")
    for host, pid in zip(plan["hosts"], pids, strict=True):
        for nic in host["nics"]:
            far_end = f"peer name {nic['name']} address {nic['mac']} netns {pid}"
            orders.append(f"link add {nic['port']} mtu {JUMBO} type veth {far_end}")
            orders.append(f"link set {nic['port']} master {nic['bridge']} up")
    # The switch carries jumbo frames, but who logs in from it has a card like any other: set last, because a
    # bridge follows its ports until it is given a size that differs.
    orders += [f"link set {each['bridge']} mtu {ETHERNET}" for each in plan["networks"] if each["address"]]
    done = subprocess.run(
        [plan["ip"], "-batch", "-"],
        input="\n".join(orders) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"cannot wire the hosts: {done.stderr.strip() or 'ip failed'}")


def _say(message: dict[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # `up` is gone; nobody would ever use what is being built.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os._exit(1)

"""The `ssh` of a person, as clusterctl itself reaches a host, or into the place of a rank."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

import msgspec

from clusterctl.ask.bundle import REMOTE_COMMAND, pack
from clusterctl.errors import UsageError
from clusterctl.inventory.fold import fold
from clusterctl.session.target import Target
from clusterctl.store.runs import RunDirectory, find_run

_SPYING = ("observe.debug_server", "observe.signalled", "observe.stacks", "shared.processes", "ssh")
_OF_RUN = re.compile(r"([A-Za-z0-9-]*):([0-9]{1,9})\Z")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A rank that runs, as far as this machine knows."""

    run: str
    rank: int
    host: str
    pid: int
    python: str
    config: str


def place(name: str) -> Place | None:
    """The rank of ``RUN:RANK`` (``:3``: of the newest run); None for a host's name. Raises UsageError."""
    found = _OF_RUN.match(name)
    if found is None:
        return None
    return _place(find_run(found[1] or None), int(found[2]))


def to_host(target: Target, host: str, words: Sequence[str], *, terminal: bool) -> list[str]:
    """The command line. One word is a text for the shell there, several are the words of a command. Raises
    UsageError for a host that is not one of ``target``."""
    if host not in target.names:
        near = get_close_matches(host, target.names, n=1)
        raise UsageError(
            f"{host} is not among the hosts of {target.hosts.inventory.source}",
            hint=f"did you mean {near[0]}?" if near else f"its hosts: {fold(target.names)}",
        )
    command = words[0] if len(words) == 1 else shlex.join(words)
    config = str(target.hosts.ssh_config) if target.hosts.ssh_config else ""
    return _ssh(config, host, command, terminal=terminal)


def to_rank(at: Place, words: Sequence[str], *, terminal: bool) -> list[str]:
    """The command line; ``words`` as for `to_host`, none is a shell."""
    order = {
        "run": at.run,
        "rank": at.rank,
        "pid": at.pid,
        "words": list(words),
    }
    program = Path(str(resources.files("clusterctl") / "node" / "ssh.py")).read_bytes()
    # In letters that every login shell passes on as they are.
    boot = f'import base64;exec(base64.b64decode("{base64.b64encode(program).decode()}"))'
    text = base64.b64encode(json.dumps(order).encode()).decode()
    command = f"exec {shlex.quote(at.python)} -I -S -c '{boot}' {text}"
    return _ssh(at.config, at.host, command, terminal=terminal)


def spying(at: Place) -> tuple[list[str], bytes]:
    """The command line that shows all Python stacks of the rank, and what it is to read first."""
    request = {"run": at.run, "rank": at.rank, "pid": at.pid, "python": at.python}
    return _ssh(at.config, at.host, REMOTE_COMMAND, terminal=False), pack("spy", request, _SPYING)


def _place(directory: RunDirectory, rank: int) -> Place:
    plan = directory.plan()
    if rank >= plan.world_size:
        raise UsageError(
            f"run {plan.run} has no rank {rank}", hint=f"its ranks are 0 to {plan.world_size - 1}"
        )
    node = next(each for each in plan.nodes if rank in each.ranks)
    events = directory.attempt_events()
    started = [each for each in events if each["event"] == "rank-start" and each.get("rank") == rank]
    ended = any(each["event"] == "rank-exit" and each.get("rank") == rank for each in events)
    pid = started[-1].get("pid") if started else None
    if directory.outcome() is not None or ended or not isinstance(pid, int):
        state = "has ended" if ended or directory.outcome() is not None else "has not started"
        raise UsageError(
            f"rank {rank} of run {plan.run} {state}, so it has no place to go to",
            hint=f"clusterctl ssh {node.host} goes to its host; clusterctl logs {plan.run} --rank {rank}",
        )
    return Place(run=plan.run, rank=rank, host=node.host, pid=pid, python=node.python, config=plan.ssh_config)


def _ssh(config: str, host: str, command: str, *, terminal: bool) -> list[str]:
    options = ["-F", config] if config else []
    options += ["-t"] if terminal else []
    return ["ssh", *options, "--", host, *([command] if command else [])]

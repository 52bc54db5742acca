"""Hosts, runs, ranks and clusters for a value that is being typed: from files of this machine only."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from clusterctl.cli.completing.position import Position
from clusterctl.errors import UsageError

_PLAIN = re.compile(r"[A-Za-z0-9_.:@,+/=%^-]+\Z", re.ASCII)
_RUNS = 50


class Offer(NamedTuple):
    """``kind``: ``words``; ``more``: they go on; ``files`` or ``dirs``, which the shell knows itself."""

    kind: str
    words: tuple[tuple[str, str], ...] = ()


def offer(at: Position) -> Offer:
    """What may stand at the cursor. Raises whatever a file that cannot be read or understood raises."""
    if at.choices or not at.metavar:
        return _offer(at, at.choices)
    if at.option == "--cluster":
        return _offer(at, [(name, each.hostfile) for name, each in _clusters().items()])
    if at.option == "--profile":
        from clusterctl.session.profiles import shipped

        found = _offer(at, [(name, "shipped") for name in shipped()])
        return found if found.words else Offer("files")
    wanted = at.metavar.strip("[].")
    for pattern, values in _VALUES.items():
        if re.match(pattern, wanted):
            return values(at)
    return Offer("words")


def _files(at: Position) -> Offer:
    return Offer("files")


def _dirs(at: Position) -> Offer:
    return Offer("dirs")


def _runs(at: Position) -> Offer:
    return _offer(at, [(run.name, "") for run in _all_runs() if run.name not in at.arguments])


def _ranks(at: Position) -> Offer:
    """``RUN:RANK`` in two steps, the run first."""
    run, colon, _ = at.begun.partition(":")
    if colon:
        plan = _plan(run)
        ranks = ((rank, str(node["host"])) for node in plan["nodes"] for rank in node["ranks"])
        return _offer(at, [(f"{run}:{rank}", f"on {host}") for rank, host in sorted(ranks)])
    return Offer("more", _offer(at, [(f"{each.name}:", "a rank of it") for each in _all_runs()]).words)


def _host_or_rank(at: Position) -> Offer:
    if at.arguments:
        return Offer("files")
    if ":" in at.begun:
        return _ranks(at)
    try:
        hosts = _offer(at, [(host, "a shell") for host in _inventory(at)])
    except UsageError:  # none are named: a run has its own
        return _ranks(at)
    return hosts if hosts.words else _ranks(at)


def _hosts(at: Position) -> Offer:
    """One, or several with what separates them."""
    if at.verb == "init":
        return _ssh_hosts(at)
    if at.verb in ("logs", "pull"):
        run = at.arguments[0] if at.arguments else ""
        return _offer(at, [(str(node["host"]), "") for node in _plan(run)["nodes"]])
    done, separator, _ = at.begun.rpartition("@" if "@" in at.begun else ",")
    taken = re.split("[@,]", done)
    return _offer(at, [(f"{done}{separator}{host}", "") for host in _inventory(at) if host not in taken])


def _ssh_hosts(at: Position) -> Offer:
    from clusterctl.cli.ssh_hosts import named_hosts

    config = at.value_of("--ssh-config")
    return _offer(at, [(host, "") for host in named_hosts(Path(config) if config else None)])


def _checks(at: Position) -> Offer:
    from clusterctl.checks.families import RULES

    codes = [(rule.code, rule.looks_at) for rule in RULES]
    families = {code.partition(".")[0]: "" for code, _ in codes}
    return _offer(at, [*families.items(), *codes])


_VALUES: dict[str, Callable[[Position], Offer]] = {
    r"FILE|HOSTFILE|CONFIG|SCRIPT|ARGS|MODEL|RECORD|COMMAND|-- CMD": _files,
    r"DIR": _dirs,
    r"HOST\|RUN:RANK": _host_or_rank,
    r"RUN:RANK": _ranks,
    r"RUN": _runs,
    r"HOST|N\|HOSTS": _hosts,
    r"CODE": _checks,
}


def _offer(at: Position, words: Iterable[tuple[str, str]]) -> Offer:
    """Only what a shell takes as it is: names come from files that others may have written."""
    found = [(word, said) for word, said in words if word.startswith(at.begun) and _PLAIN.match(word)]
    return Offer("words", tuple(found))


def _home() -> Path:
    return Path(os.environ.get("CLUSTERCTL_HOME") or Path.home() / ".clusterctl")


def _all_runs() -> list[Path]:
    """The newest first."""
    try:
        runs = sorted((_home() / "runs").iterdir(), reverse=True)
    except OSError:
        return []
    return [run for run in runs if not run.name.startswith(".")][:_RUNS]


def _plan(run: str) -> Any:
    found = next(each for each in _all_runs() if each.name.startswith(run))
    return json.loads((found / "plan.json").read_bytes())


def _clusters() -> dict[str, Any]:
    from clusterctl.session.clusters import every

    return dict(every())


def _inventory(at: Position) -> tuple[str, ...]:
    from clusterctl.session.hosts import resolve

    hostfile = at.value_of("--hostfile")
    if not hostfile and (cluster := at.value_of("--cluster")):
        hostfile = _clusters()[cluster].hostfile
    if not hostfile and at.verb == "doctor" and at.arguments:
        hostfile = at.arguments[0]
    return resolve(hostfile or None).inventory.names

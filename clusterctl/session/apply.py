"""Does what `checks.safe` allows, and nothing else: on the hosts over SSH, and on this machine."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec

from clusterctl.ask import exec as asking
from clusterctl.ask.exec import Answer
from clusterctl.checks.evaluate import Report
from clusterctl.checks.safe import CloseKey, SafeAction
from clusterctl.session.target import Target
from clusterctl.settings import EXEC


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do for the finding ``code`` of ``hosts``: there, or on this machine."""

    action: SafeAction
    code: str
    hosts: tuple[str, ...]

    @property
    def is_here(self) -> bool:
        return self.action.where == "here"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a step ended for one host; ``problem`` is "" where it was done."""

    step: Step
    host: str
    problem: str = ""


def steps(report: Report) -> tuple[Step, ...]:
    """What of the report's cures doctor may do by itself, in their order."""
    found: defaultdict[tuple[str, SafeAction], dict[str, None]] = defaultdict(dict)
    for cure in report.cures:
        for action in cure.remedy.actions:
            found[cure.code, action][cure.host] = None
    return tuple(
        Step(action=action, code=code, hosts=tuple(hosts)) for (code, action), hosts in found.items()
    )


def apply(target: Target, chosen: Iterable[Step]) -> tuple[Outcome, ...]:
    """Do it. A host that cannot be asked, or refuses, is an outcome with its problem."""
    outcomes: list[Outcome] = []
    link = target.connect()
    try:
        for step in chosen:
            if isinstance(step.action, CloseKey):
                problem = _close(Path(step.action.path))
                outcomes += [Outcome(step=step, host=host, problem=problem) for host in step.hosts]
            else:
                answers = asking.run(link, step.hosts, step.action.words, timeout=EXEC.timeout)
                outcomes += [Outcome(step=step, host=each.host, problem=_problem(each)) for each in answers]
    finally:
        link.close()
    return tuple(outcomes)


def _problem(answer: Answer) -> str:
    if answer.failure is not None:
        return answer.failure.message
    said = answer.stderr.decode("utf-8", "replace").strip().splitlines()
    return "" if answer.exit_code == 0 else (said[-1] if said else f"it ended with {answer.exit_code}")


def _close(key: Path) -> str:
    """Through an open file: what is looked at is what is changed."""
    try:
        handle = os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                return f"{key} is no file of yours"
            os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
    except OSError as error:
        return f"{key}: {error.strerror}"
    return ""

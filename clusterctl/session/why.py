"""Why a run ended as it did: what its directory on this machine says, read in pieces, and explained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from clusterctl.advise.explain import Explanation, HostWarning, explain
from clusterctl.advise.hang_verdict import HangSeen, HangVerdict
from clusterctl.advise.sightings import Excerpt, Sighting
from clusterctl.messages.events import Warned
from clusterctl.plan.model import LaunchPlan
from clusterctl.report.harmless import plain_output
from clusterctl.settings import WHY
from clusterctl.store.outcome import Cause, Outcome
from clusterctl.store.runs import RunDirectory

_STATES = 3
"""Of one line that carriage returns rewrote, so many states are looked at: the last ones."""
_BLOCK = 1 << 20
_NUMBER = re.compile(r"\d+")


def why(
    directory: RunDirectory,
    *,
    plan: LaunchPlan | None = None,
    outcome: Outcome | None = None,
    brief: bool = False,
) -> Explanation:
    """Of a run that is over, or goes on. ``brief``: from the end of the one log that matters; else the logs
    of all ranks are looked at. Raises ClusterctlError where the run's records cannot be read."""
    plan = plan or directory.plan()
    outcome = outcome or directory.outcome()
    told = _told(directory)
    if outcome is None:
        status = "running" if directory.supervised() else "interrupted"
        seen = tuple(_sighting(each) for each in _current(told.warnings))
        looked = last_hang(directory)
        verdict = looked.verdict if looked is not None else None
        return Explanation(run=plan.run, status=status, confirmations=seen, hang=verdict)
    looked = last_hang(directory) if outcome.cause is not None and outcome.cause.kind == "hang" else None
    excerpts, unread = [], []
    for path, excerpt in _logs(directory, plan, outcome.cause, brief=brief):
        pieces, skipped = _pieces(path, excerpt, brief=brief, whose=outcome.cause)
        excerpts += pieces
        if skipped:
            unread.append(f"{skipped / 1e9:.1f} GB in the middle of {excerpt.file} were not looked at")
    return explain(
        plan,
        outcome,
        excerpts=excerpts,
        warnings=told.warnings,
        notes=told.notes,
        peaks=told.peaks,
        done=told.done,
        unread=unread,
        hang=looked.verdict if looked is not None else None,
    )


def current_warnings(directory: RunDirectory) -> list[HostWarning]:
    """What the watches on the hosts have told and not taken back."""
    return _current(_told(directory).warnings)


def seems_to_hang(directory: RunDirectory, plan: LaunchPlan) -> HangSeen | None:
    """What was found when the ranks were looked at last, where none has printed anything since."""
    looked = last_hang(directory)
    printed = [directory.printed(node.host) or 0.0 for node in plan.nodes]
    return looked if looked is not None and max(printed) < looked.at else None


def last_hang(directory: RunDirectory) -> HangSeen | None:
    """What was found when the ranks were looked at last, if they ever were."""
    found = [path for folder in directory.path.glob("hang*") for path in folder.glob("verdict-*.json")]
    newest = max(found, key=_age, default=None)
    if newest is None:
        return None
    try:
        verdict = msgspec.json.decode(newest.read_bytes(), type=HangVerdict)
        return HangSeen(verdict, newest.stat().st_mtime)
    except (OSError, msgspec.MsgspecError):
        return None


def _age(path: Path) -> list[int]:
    """[attempt, number] of ``hang.attempt-2/verdict-3.json``; the first attempt has no number."""
    numbers = [int(number) for number in _NUMBER.findall(f"{path.parent.name}/{path.name}")]
    return [1] * (2 - len(numbers)) + numbers


def _current(warnings: list[HostWarning]) -> list[HostWarning]:
    newest = {(each.host, each.warning.subject): each for each in warnings}
    return [each for each in newest.values() if not each.warning.over]


def _sighting(each: HostWarning) -> Sighting:
    return Sighting(
        code=f"watch.{each.warning.what}", role="confirmation", means=each.warning.text, host=each.host
    )


@dataclass
class _Told:
    """What hosts told of themselves: warnings, notes, how large ranks were, which ended with 0 unasked."""

    warnings: list[HostWarning] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    peaks: dict[int, int] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)


def _told(directory: RunDirectory) -> _Told:
    """What is not as expected, such as events of another version, is left out."""
    told = _Told()
    for event in directory.attempt_events():
        host = str(event.get("host", ""))
        try:
            if event["event"] == "warned":
                fields = {key: event[key] for key in event if key in Warned.__struct_fields__}
                told.warnings.append(
                    HostWarning(host=host, warning=msgspec.convert(fields | {"event": "warned"}, Warned))
                )
            elif event["event"] == "note":
                told.notes.setdefault(host, []).append(str(event["text"]))
            elif event["event"] == "rank-exit":
                told.peaks[int(event["rank"])] = int(event["peak_memory"])
                if event["code"] == 0 and not event["told"]:
                    told.done.add(int(event["rank"]))
        except (KeyError, TypeError, ValueError, msgspec.ValidationError):
            continue
    return told


def _logs(
    directory: RunDirectory, plan: LaunchPlan, cause: Cause | None, *, brief: bool
) -> Iterator[tuple[Path, Excerpt]]:
    """(file, whose it is) of each log to look at, that of the cause first."""
    if cause is not None and cause.log:
        yield directory.path / cause.log, Excerpt(text="", host=cause.host, rank=cause.rank, file=cause.log)
    if brief or cause is None:
        return
    for node in plan.nodes:
        names = {plan.log_of(rank): rank for rank in node.ranks} | {plan.agent_log: None}
        for name, rank in names.items():
            path = directory.host_logs(node.host) / name
            file = str(path.relative_to(directory.path))
            if file != cause.log:
                yield path, Excerpt(text="", host=node.host, rank=rank, file=file)
    yield directory.logs / plan.launcher_log, Excerpt(text="", file=f"logs/{plan.launcher_log}")


def _pieces(path: Path, about: Excerpt, *, brief: bool, whose: Cause | None) -> tuple[list[Excerpt], int]:
    """The beginning and the end of a log, or all of a small one; how many bytes between were not read. That
    of the cause is read farther than others."""
    own = whose is not None and about.file == whose.log
    head = WHY.head if own and not brief else 0
    tail = WHY.brief if brief else WHY.tail if own else WHY.other
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            start = max(0, size - tail)
            found = []
            if start and head:
                stream.seek(0)
                first = stream.read(min(head, start))
                found.append(_excerpt(first.rpartition(b"\n")[0], about, 1, ends=False))
            number = _line_at(stream, start)
            stream.seek(start)
            data = stream.read(tail)
    except OSError:
        return [], 0
    if start:  # the first line is half of one
        _, _, data = data.partition(b"\n")
        number = number + 1 if number is not None else None
    found.append(_excerpt(data, about, number, ends=True))
    return found, max(0, start - head) if own and not brief else 0


def _line_at(stream: BinaryIO, offset: int) -> int | None:
    """The number of the line at an offset, where that is not too far to count."""
    if offset > WHY.counted:
        return None
    stream.seek(0)
    number, left = 1, offset
    while left > 0 and (block := stream.read(min(_BLOCK, left))):
        number += block.count(b"\n")
        left -= len(block)
    return number


def _excerpt(data: bytes, about: Excerpt, first: int | None, *, ends: bool) -> Excerpt:
    lines = [_plain(line) for line in data.split(b"\n")]
    while len(lines) > 1 and not lines[-1]:
        lines.pop()
    return msgspec.structs.replace(about, text="\n".join(lines), first=first, ends=ends)


def _plain(line: bytes) -> str:
    """One line; of one that carriage returns rewrote, its last states: what a progress bar overwrote may have
    been an error."""
    states = [plain_output(state, colours=False).rstrip() for state in line.split(b"\r")[-_STATES:]]
    return "  ".join(state for state in states if state)

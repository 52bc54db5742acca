"""Why a run ended as it did, in words: cause, what speaks for it, what only followed. Pure.

Which rank was first is decided elsewhere, and stays. Here is said what that means, by what it raised, how
it ended, and what the end of its log says. What was printed before its end proves nothing: it is told as
what else was seen. Where nothing is known, that is said.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from clusterctl.advise.hang_verdict import HangVerdict
from clusterctl.advise.sightings import Excerpt, Sighting, end_begins, sightings
from clusterctl.advise.signature import Role
from clusterctl.messages.events import Warned
from clusterctl.plan.model import LaunchPlan
from clusterctl.store.outcome import Cause, Outcome

_FROM_OUTSIDE = (1, 2, 3, 9, 15)
"""Signals that another process sends: what the victim had printed says nothing of them."""
_PROVEN = ("oom", "lost", "internal", "hang", "preflight")
_MOST_CONFIRMING = 4
_GREETING = re.compile(
    r"^\[Gloo\] Rank \d+ is connected to"
    r"|^\[W.*\] \[c10d\] The hostname of the client socket cannot be retrieved"
    r"|^\[[-\d :,]+\] \[(INFO\] \[\w+\.py:\d+:(main|get_cmd)|WARNING\] \[real_accelerator\.py:\d+:\w+)\] "
)
_QUOTED = 12
_LAST = 120


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """Failures that came after the cause and say one thing. ``role`` is ``root`` for what says the same as
    the cause, or stands for itself."""

    role: Role
    code: str
    means: str
    ranks: tuple[int, ...]
    hosts: tuple[str, ...]
    count: int


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """``means`` and ``hint`` are the cause in words, where ``known``; else ``means`` is what is recorded of
    it.

    ``sighting`` is the line that says so. ``confirmations`` speak for it, or are what else was seen on its
    host. ``suspects`` are what stands for itself elsewhere, where the cause itself only follows from
    another failure. ``quoted`` are the last lines or the traceback of the rank. ``unread`` says what was
    not looked at. ``hang`` is what was found when the ranks were looked at last.
    """

    schema: str = "clusterctl.why/1"
    run: str
    status: str
    known: bool = False
    means: str = ""
    hint: str = ""
    cause: Cause | None = None
    sighting: Sighting | None = None
    confirmations: tuple[Sighting, ...] = ()
    suspects: tuple[Sighting, ...] = ()
    cascades: tuple[Echo, ...] = ()
    quoted: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    hang: HangVerdict | None = None


class HostWarning(msgspec.Struct, frozen=True, kw_only=True):
    """A warning of a watch, and whose."""

    host: str
    warning: Warned


def explain(
    plan: LaunchPlan,
    outcome: Outcome,
    *,
    excerpts: Sequence[Excerpt] = (),
    warnings: Sequence[HostWarning] = (),
    notes: Mapping[str, Sequence[str]] | None = None,
    peaks: Mapping[int, int] | None = None,
    done: Collection[int] = (),
    unread: Iterable[str] = (),
    hang: HangVerdict | None = None,
) -> Explanation:
    """``excerpts`` are pieces of logs, the last of each one is its end. ``notes``: host -> what its agent
    noted. ``peaks``: rank -> its largest size in bytes. ``done``: ranks that ended with 0 unasked."""
    cause = outcome.cause
    bare = Explanation(run=outcome.run, status=outcome.status, cause=cause, unread=tuple(unread))
    if cause is None or outcome.status in ("succeeded", "stopped", "timeout"):
        return bare
    known = _known(plan, cause, peaks or {})
    own = [each for each in excerpts if each.rank == cause.rank and each.host == cause.host]
    if cause.kind == "hang" and hang is not None:
        _, others = _read(cause, own, known, local_rank=plan.pass_local_rank)
        printed = [each for each in others if each.role != "cascade"]
        raised = next(
            (each for each in outcome.collateral if each.rank == cause.rank and each.traceback), None
        )
        return msgspec.structs.replace(
            bare,
            known=True,
            means=cause.message,
            hint=hang.hint,
            hang=hang,
            confirmations=tuple(_distinct(printed, None))[:_MOST_CONFIRMING],
            quoted=_quoted(raised, ()) if raised is not None and hang.kind == "raised" else (),
        )
    chosen, others = _read(cause, own, known, local_rank=plan.pass_local_rank)
    suspects: tuple[Sighting, ...] = ()
    if chosen is None or chosen.role != "root":
        elsewhere = [each for each in excerpts if each not in own]
        suspects = _suspects(plan, outcome, elsewhere, known)
    if chosen is not None and chosen.role == "cascade" and not suspects:
        suspects = _left_early(plan, done)
        chosen = msgspec.structs.replace(chosen, hint=suspects[0].hint) if suspects else chosen
    quoted = _quoted(cause, own)
    confirmations = [*_warned(cause, warnings), *_noted(cause, notes or {}, known), *others]
    return msgspec.structs.replace(
        bare,
        known=chosen is not None,
        means=chosen.means if chosen else _unexplained(cause, quoted),
        hint=chosen.hint if chosen else "",
        sighting=chosen,
        confirmations=tuple(_distinct(confirmations, chosen))[:_MOST_CONFIRMING],
        suspects=suspects,
        cascades=_echoes(plan, outcome, chosen, known),
        quoted=quoted,
    )


def _known(plan: LaunchPlan, cause: Cause, peaks: Mapping[int, int]) -> dict[str, str]:
    """Facts of the run that sentences can name."""
    found = {
        "run": plan.run,
        "world": str(plan.world_size),
        "master_host": plan.nodes[0].host,
        "master_port": str(plan.master_port),
        "host": cause.host or "the host",
        "log": cause.log or "its log",
    }
    node = next((node for node in plan.nodes if node.host == cause.host), None)
    if node is not None:
        found |= {"python": node.python, "slots": ",".join(map(str, node.slots))}
    if cause.rank is not None and peaks.get(cause.rank):
        found["peak"] = size_in_words(peaks[cause.rank])
    return found


def _read(
    cause: Cause, own: Sequence[Excerpt], known: Mapping[str, str], *, local_rank: bool
) -> tuple[Sighting | None, list[Sighting]]:
    """(what the cause means, what else stands in the log of its rank)."""
    raised = _raised(cause)
    ended = _best(msgspec.structs.replace(raised, text=cause.message, file=""), known, "end")
    said = None
    if cause.kind in ("exception", "oom") and cause.signal is None:
        said = _best(raised, known, "text", local_rank=local_rank)
    at_the_end: list[Sighting] = []
    before: list[Sighting] = []
    for excerpt in own:
        lines = excerpt.text.split("\n")
        start = len(lines) if not excerpt.ends else end_begins(lines)
        for number, seen in sightings(excerpt, known, local_rank=local_rank):
            (at_the_end if number >= start else before).append(seen)
    if cause.traceback or cause.kind in _PROVEN or cause.signal in _FROM_OUTSIDE:
        best = said or ended
        if said is not None and at_the_end:  # the same line in the log has a number
            best = next((each for each in at_the_end if each.means == said.means), said)
        return best, [*at_the_end, *before]
    ordered = [*at_the_end, *([ended] if ended else [])]
    best = min(ordered, key=lambda each: each.role != "root", default=None)
    return best, [*at_the_end, *before]


def _best(
    excerpt: Excerpt, known: Mapping[str, str], source: str, *, local_rank: bool = False
) -> Sighting | None:
    found = sightings(excerpt, known, source="end" if source == "end" else "text", local_rank=local_rank)
    return found[0][1] if found else None


def _suspects(
    plan: LaunchPlan, outcome: Outcome, elsewhere: Sequence[Excerpt], known: Mapping[str, str]
) -> tuple[Sighting, ...]:
    """What stands for itself in what other ranks raised, and at the end of other logs."""
    found: dict[tuple[str, int | None], Sighting] = {}
    pieces = [_raised(each) for each in outcome.collateral if each.kind == "exception"]
    for excerpt in [*pieces, *(each for each in elsewhere if each.ends)]:
        lines = excerpt.text.split("\n")
        about = {**known, "host": excerpt.host or known["host"], "log": excerpt.file}
        for number, seen in sightings(excerpt, about, local_rank=plan.pass_local_rank):
            if seen.role == "root" and (excerpt.raised or number >= end_begins(lines)):
                found.setdefault((seen.host, seen.rank), seen)
                break
    return tuple(found.values())[:_MOST_CONFIRMING]


def _left_early(plan: LaunchPlan, done: Collection[int]) -> tuple[Sighting, ...]:
    """Ranks that ended with 0, where others only say that a peer is gone."""
    found = [(node.host, rank) for node in plan.nodes for rank in node.ranks if rank in done]
    return tuple(
        Sighting(
            code="end.early",
            role="root",
            means="ended with exit code 0 while others went on",
            hint=f"rank {rank} on {host} ended with exit code 0 while others went on: a return, a sys.exit, "
            "or fewer batches there (drop_last)",
            host=host,
            rank=rank,
        )
        for host, rank in found[:_MOST_CONFIRMING]
    )


def _raised(cause: Cause) -> Excerpt:
    text = cause.traceback or cause.message
    return Excerpt(text=text, host=cause.host, rank=cause.rank, file=cause.log, raised=True)


def _warned(cause: Cause, warnings: Sequence[HostWarning]) -> list[Sighting]:
    """What watches of the cause's host had told, the newest of each subject."""
    newest = {each.warning.subject: each for each in warnings if each.host == cause.host}
    return [
        Sighting(
            code=f"watch.{each.warning.what}",
            role="confirmation",
            means=each.warning.text,
            host=each.host,
        )
        for each in newest.values()
        if each.warning.what != "unseen" and not each.warning.over
    ]


def _noted(cause: Cause, notes: Mapping[str, Sequence[str]], known: Mapping[str, str]) -> list[Sighting]:
    seen = [_best(Excerpt(text=note, host=cause.host), known, "end") for note in notes.get(cause.host, ())]
    return [msgspec.structs.replace(each, role="confirmation") for each in seen if each is not None]


def _distinct(found: Iterable[Sighting], chosen: Sighting | None) -> list[Sighting]:
    told = {chosen.means} if chosen else set()
    kept = []
    for each in found:
        if each.means not in told:
            told.add(each.means)
            kept.append(each)
    return kept


def _echoes(
    plan: LaunchPlan, outcome: Outcome, chosen: Sighting | None, known: Mapping[str, str]
) -> tuple[Echo, ...]:
    """All that came after the cause, folded by what it says; what says the same as the cause first."""
    groups: dict[tuple[Role, str, str], list[Cause]] = {}
    for cause in outcome.collateral:
        groups.setdefault(_kind_of(plan, cause, chosen, known), []).append(cause)
    found = [
        Echo(
            role=role,
            code=code,
            means=means,
            ranks=tuple(sorted(cause.rank for cause in causes if cause.rank is not None)),
            hosts=tuple(dict.fromkeys(cause.host for cause in causes if cause.host)),
            count=len(causes),
        )
        for (role, code, means), causes in groups.items()
    ]
    return tuple(sorted(found, key=lambda echo: (echo.role != "root", -echo.count)))


def _kind_of(
    plan: LaunchPlan, cause: Cause, chosen: Sighting | None, known: Mapping[str, str]
) -> tuple[Role, str, str]:
    if cause.kind == "signal":
        return "cascade", "end.stopped", "ended with the run"
    about = {**known, "host": cause.host or known["host"], "log": cause.log}
    seen = _best(_raised(cause), about, "text", local_rank=plan.pass_local_rank)
    if seen is None:
        return "cascade", "", cause.message
    if chosen is not None and seen.code == chosen.code:
        return "root", seen.code, "the same"
    return seen.role, seen.code, seen.means


def _quoted(cause: Cause, own: Sequence[Excerpt]) -> tuple[str, ...]:
    if cause.traceback:
        return tuple(cause.traceback.rstrip().splitlines()[-_QUOTED:])
    lines = [line.rstrip() for each in own if each.ends for line in each.text.split("\n") if is_telling(line)]
    return tuple(lines[-_QUOTED:])


def _unexplained(cause: Cause, quoted: Sequence[str]) -> str:
    """What is recorded. A script that catches what it raises, or leaves by `sys.exit(text)`, says why in its
    last line."""
    if cause.kind != "exit" or cause.rank is None or not quoted:
        return cause.message
    last = quoted[-1].strip()
    return f"{cause.message}; its last line: {last if len(last) <= _LAST else last[: _LAST - 1] + '…'}"


def is_telling(line: str) -> bool:
    """Whether a line of a log can say anything of its end: greetings of torch and DeepSpeed cannot."""
    return bool(line.strip()) and not _GREETING.search(line)


def size_in_words(size: int) -> str:
    """``1.2 GB``, ``340 MB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"

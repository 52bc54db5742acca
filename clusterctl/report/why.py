"""An explanation for somebody who is tired: the cause in words, what to do, what speaks for it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from clusterctl.advise.explain import Echo, Explanation
from clusterctl.advise.sightings import Sighting
from clusterctl.report.findings import brief
from clusterctl.report.hang import details, hang
from clusterctl.store.outcome import Cause

_QUOTE = 240
"""Of a quoted line, so much is shown."""
_ENDS = {
    "succeeded": "succeeded: nothing to explain",
    "stopped": "was stopped on request: nothing failed before",
    "timeout": "was stopped when its time limit was over: nothing failed before",
    "running": "runs; how it stands: clusterctl status {run}",
    "interrupted": "has lost its controller: nobody has seen its end; clusterctl stop {run} asks the hosts",
}


def page(found: Explanation, directory: Path) -> RenderableType:
    """The whole explanation."""
    if found.cause is None or found.status in ("stopped", "timeout"):
        words = _ENDS.get(found.status, found.status).format(run=found.run)
        warnings = [seen(each) for each in found.confirmations]
        hangs = [hang(found.hang)] if found.hang is not None else []
        return Group(Text.assemble(("run ", "dim"), (found.run, "bold"), f" {words}"), *warnings, *hangs)
    parts: list[RenderableType] = [
        Text.assemble(
            ("✗ ", "bold red"), (found.status, "bold"), after(found.status, found.cause, found.means)
        )
    ]
    if found.hint:
        parts.append(hint(found.hint))
    if not found.known and found.cause.kind in ("exit", "exception", "signal", "oom"):
        left = ": the last lines that it left" if found.quoted else ", and its log says nothing"
        parts.append(Text(f"no known signature{left}", style="yellow"))
    if not found.known or found.cause.traceback or found.hang is not None:
        parts += [quoted(line) for line in found.quoted]
    if found.hang is not None:
        parts.append(details(found.hang))
    if found.sighting is not None:
        parts += _proof(found.sighting, directory, shown=bool(found.cause.traceback))
    for suspect in found.suspects:
        parts.append(_row("perhaps", f"{_place(suspect)}: {suspect.means}"))
        parts += _proof(suspect, directory)
    parts += [seen(each) for each in found.confirmations]
    parts += [_row("after it", echo_in_words(echo)) for echo in found.cascades]
    parts += [_row("unread", each) for each in found.unread]
    log = found.cause.log
    if log and (found.sighting is None or not found.sighting.file):
        parts.append(_row("log", str(directory / log)))
    return Group(*parts)


def where(cause: Cause) -> str:
    """``node1 rank 3: ``, or what is known of it; nothing where the message says it itself."""
    if cause.kind == "hang":
        return ""
    if cause.rank is not None:
        return f"{cause.host} rank {cause.rank}: "
    return f"{cause.host}: " if cause.host else ""


def after(status: str, cause: Cause, words: str) -> str:
    """What follows a status: where, and its cause in ``words``, which may say the status once more."""
    if words.startswith(f"{status} "):
        return words.removeprefix(status)
    return f": {where(cause)}{words.removeprefix(f'{status}: ')}"


def hint(text: str) -> Text:
    return Text.assemble(("hint: ", "cyan"), text)


def echo_in_words(echo: Echo) -> str:
    """``3 more say the same (ranks 1-3)``, ``4 more failed of it on node[2-3]: ...``."""
    hosts = f" on {brief(echo.hosts)}" if echo.hosts else ""
    if echo.means == "the same":
        return f"{echo.count} more with the same{hosts}{_ranks(echo.ranks)}"
    if echo.means == "ended with the run":
        return f"{echo.count}{hosts} ended with it{_ranks(echo.ranks)}"
    if echo.role == "cascade":
        return f"{echo.count} more failed of it{hosts}{_ranks(echo.ranks)}: {echo.means}"
    kind = "failure" if echo.role == "root" else "symptom"
    return f"{echo.count} {kind}{'s' * (echo.count > 1)}{hosts}{_ranks(echo.ranks)}: {echo.means}"


def _ranks(ranks: Sequence[int]) -> str:
    if not ranks:
        return ""
    spans: list[list[int]] = []
    for rank in ranks:
        if spans and rank == spans[-1][-1] + 1:
            spans[-1].append(rank)
        else:
            spans.append([rank])
    shown = ", ".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans[:4])
    return f" (rank{'s' * (len(ranks) > 1)} {shown}{', …' * (len(spans) > 4)})"


def quoted(line: str) -> Text:
    """One line of what a program printed, cut where it is very long."""
    cut = line if len(line) <= _QUOTE else line[: _QUOTE - 1] + "…"
    return Text("  " + cut, style="dim", no_wrap=True, overflow="ignore")


def _proof(sighting: Sighting, directory: Path, *, shown: bool = False) -> list[RenderableType]:
    """The line itself, unless it is ``shown``, and where it stands."""
    lines: list[RenderableType] = [] if shown or not sighting.text else [quoted(sighting.text)]
    if sighting.file:
        place = f"{directory / sighting.file}{f':{sighting.line}' if sighting.line else ''}"
        kind = (f"  ({sighting.role}: {sighting.code})", "dim")
        lines.append(Text.assemble(("  at  ", "dim"), place, kind, no_wrap=True, overflow="ignore"))
    return lines


def seen(sighting: Sighting) -> Text:
    """What speaks for the cause, or was seen besides."""
    line = f" (line {sighting.line})" if sighting.line else ""
    return _row("seen", f"{_place(sighting)}: {sighting.means}{line}")


def _place(sighting: Sighting) -> str:
    return f"{sighting.host} rank {sighting.rank}" if sighting.rank is not None else sighting.host or "here"


def _row(label: str, value: str) -> Text:
    return Text.assemble((f"{label}  ", "dim"), value)

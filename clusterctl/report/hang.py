"""A verdict on ranks that hang, as text and as JSON. No I/O."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from clusterctl.advise.collectives import GroupState
from clusterctl.advise.hang_names import of_group, spans
from clusterctl.advise.hang_verdict import FoldedStack, HangVerdict
from clusterctl.messages.evidence import Frame
from clusterctl.report.harmless import harmless

_STACKS = 4
_INNER, _OUTER = 5, 4
"""So many lines of a long stack: where it is, and how the script came there."""
_GROUPS = 4
_LONGEST = 120


def hang(verdict: HangVerdict) -> RenderableType:
    """The sentence, why the run is stopped or not, what to do; then groups and stacks, the rarest first."""
    parts: list[RenderableType] = [
        Text.assemble(("hang  ", "bold red" if verdict.stop else "bold yellow"), harmless(verdict.sentence)),
        Text.assemble(("why   ", "dim"), f"{'stopped' if verdict.stop else 'not stopped'}: {verdict.reason}"),
    ]
    if verdict.hint:
        parts.append(Text.assemble(("hint: ", "cyan"), harmless(verdict.hint)))
    return Group(*parts, details(verdict))


def details(verdict: HangVerdict) -> RenderableType:
    """What the verdict rests on: the groups in which ranks wait, and the stacks, folded."""
    parts: list[RenderableType] = [_group(group) for group in verdict.groups[:_GROUPS]]
    more = len(verdict.stacks) - _STACKS
    for stack in verdict.stacks[:_STACKS]:
        parts += _stack(stack)
    if more > 0:
        parts.append(Text(f"      {more} more stacks: --json", style="dim"))
    return Group(*parts)


def document(verdict: HangVerdict) -> dict[str, Any]:
    """The whole verdict, for programs."""
    found: dict[str, Any] = msgspec.to_builtins(verdict)
    return found


def _group(group: GroupState) -> Text:
    said = [f"{_ranks(group.waiting)} in"]
    said += [f"{_ranks(group.missing)} missing"] * bool(group.missing)
    said += [f"{_ranks(group.through)} through"] * bool(group.through)
    said += [f"{_ranks(group.unknown)} unknown"] * bool(group.unknown)
    called = harmless(f"{group.operation} {group.sequence}{of_group(group)}"[:_LONGEST])
    return Text.assemble(("group ", "dim"), f"{called}: {', '.join(said)}")


def _stack(stack: FoldedStack) -> list[Text]:
    """Innermost line first."""
    thread = f", thread {harmless(stack.thread[:_LONGEST])}" if stack.thread else ""
    title = Text.assemble(("stack ", "dim"), f"{_ranks(stack.ranks)}{thread}")
    frames = [frame for frame in stack.frames if not frame.file.startswith("<")]
    lines = [Text(f"        {_frame(frame)}", no_wrap=True, overflow="ellipsis") for frame in frames]
    more = len(lines) - _INNER - _OUTER
    if more > 1:
        lines[_INNER:-_OUTER] = [Text(f"        {more} more", style="dim")]
    return [title, *lines]


def _frame(frame: Frame) -> str:
    line = f":{frame.line}" if frame.line else ""
    return harmless(f"{frame.file[-_LONGEST:]}{line} {frame.function[:_LONGEST]}")


def _ranks(ranks: tuple[int, ...]) -> str:
    return f"rank{'s' * (len(ranks) != 1)} {spans(ranks)}"

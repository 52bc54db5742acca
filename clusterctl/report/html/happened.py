"""The events of a run as lines that a person reads. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

_MOST = 400
_TOGETHER = 5.0
"""Seconds."""


class Line(msgspec.Struct, frozen=True):
    """``time`` is wall clock; ``hosts`` empty for what the controller did or saw."""

    time: float
    hosts: tuple[str, ...]
    text: str


def happened(events: Iterable[dict[str, Any]]) -> tuple[list[Line], int]:
    """What is worth a line, in the order of time, and how many more there were in the middle. Events that
    are not as expected, such as another version's, are left out."""
    found: list[Line] = []
    for event in events:
        host = str(event.get("host", ""))
        try:
            text = _text(event)
            if text:
                found.append(Line(float(event["time"]), (host,) if host else (), text))
        except (KeyError, TypeError, ValueError):
            continue
    found = _folded(sorted(found, key=lambda line: line.time))
    if len(found) <= _MOST:
        return found, 0
    half = _MOST // 2
    return [*found[:half], *found[-half:]], len(found) - 2 * half


def _folded(lines: Iterable[Line]) -> list[Line]:
    """What several hosts did one after the other is one line."""
    found: list[Line] = []
    for line in lines:
        last = found[-1] if found else None
        if (
            last
            and line.text == last.text
            and line.time - last.time < _TOGETHER
            and line.hosts
            and last.hosts
        ):
            found[-1] = msgspec.structs.replace(last, hosts=tuple(dict.fromkeys((*last.hosts, *line.hosts))))
        else:
            found.append(line)
    return found


def _text(event: dict[str, Any]) -> str:
    match event["event"]:
        case "attempt":
            return f"attempt {event['attempt']} begins"
        case "say" | "note":
            return str(event["text"])
        case "warned":
            return f"{'over: ' if event.get('over') else ''}{event['text']}"
        case "rank-start":
            return f"rank {event['rank']} started (pid {event['pid']})"
        case "rank-exit":
            return _rank_end(event)
        case "stopping" | "refused" | "failure":
            return f"{event['event']}: {event['reason']}"
        case "lease-over":
            return f"no controller was heard: {event.get('reason') or 'the lease is over'}"
        case "resume":
            return f"goes on from checkpoint {event['tag']}"
        case "end":
            left = event["left"]
            return f"over; {left} process{'es' * (left != 1)} left"
    return ""


def _rank_end(event: dict[str, Any]) -> str:
    how = f"signal {event['signal']}" if event.get("signal") else f"exit code {event['code']}"
    why = event.get("oom") or ""
    if not why and not event.get("told") and event.get("error"):
        why = f"{event['error']['type']}: {event['error']['message']}".splitlines()[0]
    told = ", as it was asked to" if event.get("told") else ""
    return f"rank {event['rank']} ended with {how}{told}{f': {why}' if why else ''}"

"""What a judgement is made of: the config, its schema, who reads it and where; and what comes out of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from clusterctl.advise.lint.schema import Schema
from clusterctl.advise.lint.text import Document, Place
from clusterctl.checks.finding import Finding, Severity

Reader = Literal["deepspeed", "transformers", "script"]
"""Who makes a config of the file: DeepSpeed as it stands, transformers' Trainer, or a script that may fill
in what is missing."""
Origin = Literal["installed", "recorded", "hosts"]

_ORDER: tuple[Severity, ...] = ("fail", "unknown", "warn", "info")
_LONGEST = 60
_EACH = 20
Item = TypeVar("Item")


class Machines(msgspec.Struct, frozen=True, kw_only=True):
    """What the hosts have, where somebody has looked. ``cpu``: no GPU. ``gpu_memory``: bytes of the smallest
    GPU; ``lockable``: bytes that a process may lock in memory (ulimit -l), None where it may lock any."""

    cpu: bool = False
    gpu_memory: int | None = None
    lockable: int | None = None


UNKNOWN = Machines()
"""Nobody has looked."""


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """``ranks`` None: not known. ``flags`` are the script's arguments by their names."""

    ranks: int | None = None
    reader: Reader = "deepspeed"
    flags: Mapping[str, str] = {}
    machines: Machines = UNKNOWN


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """A finding, and the line of the config that it is about."""

    line: int
    finding: Finding


class Linted(msgspec.Struct, frozen=True, kw_only=True):
    """What was judged, for whom, and what is to be said of it. ``origin``: whether ``deepspeed`` is the
    version of the hosts, of this machine, or the one that clusterctl brings."""

    file: str
    ranks: int | None
    reader: Reader
    deepspeed: str
    origin: Origin
    remarks: tuple[Remark, ...]

    @property
    def failing(self) -> tuple[Remark, ...]:
        return tuple(each for each in self.remarks if each.finding.severity == "fail")


class Case(msgspec.Struct, frozen=True, kw_only=True):
    document: Document
    schema: Schema
    situation: Situation

    def get(self, *place: str) -> Any:
        """The value there, None where there is none."""
        value: Any = self.document.data
        for key in place:
            if not isinstance(value, dict) or key not in value:
                return None
            value = value[key]
        return value

    def section(self, *place: str) -> dict[str, Any]:
        """The object there, an empty one where there is none."""
        value = self.get(*place)
        return value if isinstance(value, dict) else {}

    def on(self, *place: str) -> bool:
        """Whether a switch is on, as pydantic reads it."""
        value = self.get(*place)
        return value is True or value == 1 or str(value).lower() in ("true", "yes", "on", "t", "y", "1")

    @property
    def stage(self) -> int | None:
        """Of ZeRO; None where it is no number."""
        value = self.section("zero_optimization").get("stage", 0)
        if self.get("zero_optimization") is True:
            return 1
        if isinstance(value, str) and value.isdecimal():
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def device(self, what: str) -> str:
        """Where ``offload_optimizer`` or ``offload_param`` go to: empty, ``cpu`` or ``nvme``."""
        value = self.section("zero_optimization", what).get("device", "none")
        old = {"offload_optimizer": "cpu_offload", "offload_param": "cpu_offload_param"}[what]
        if self.on("zero_optimization", old):
            return "cpu"
        return value if value in ("cpu", "nvme") else ""

    def remark(
        self, severity: Severity, code: str, place: Place, observed: str, *, leads: str = "", fix: str = ""
    ) -> Remark:
        found = Finding(code=code, severity=severity, hosts=(), observed=observed, symptom=leads, fix=fix)
        return Remark(line=self.document.line(place), finding=found)


def ordered(remarks: Iterable[Remark]) -> tuple[Remark, ...]:
    """What breaks the run first, each kind in the order of the file."""
    return tuple(sorted(remarks, key=lambda each: (_ORDER.index(each.finding.severity), each.line)))


def counted(items: Sequence[Item], told: Callable[[Item], Remark]) -> Iterator[Remark]:
    """A remark for each of the first; the last of these says how many more there are."""
    remarks = [told(item) for item in items[:_EACH]]
    if more := len(items) - len(remarks):
        last = remarks.pop()
        observed = f"{last.finding.observed}; and {more:,} more like this"
        finding = msgspec.structs.replace(last.finding, observed=observed)
        remarks.append(Remark(line=last.line, finding=finding))
    yield from remarks


def named(place: Place) -> str:
    """``zero_optimization.stage``."""
    return short(".".join(map(str, place)))


def shown(value: Any) -> str:
    """A value as it stands in the file, cut where it is long; nothing a terminal would obey."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return short(json.dumps(value)) if not isinstance(value, str) else short(value, quotes=True)


def short(text: str, *, quotes: bool = False) -> str:
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    safe = json.dumps(cut, ensure_ascii=False)
    safe = "".join(each if each.isprintable() else "?" for each in safe)
    return safe if quotes else safe[1:-1]

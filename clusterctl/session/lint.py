"""A training config on this machine, judged before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from clusterctl.advise.lint import mistaken, transformers
from clusterctl.advise.lint.case import UNKNOWN, Case, Linted, Machines, Reader, Remark, Situation
from clusterctl.advise.lint.judge import judge
from clusterctl.advise.lint.text import UnreadableError, read
from clusterctl.checks.finding import Finding
from clusterctl.checks.os.limits import CAP_IPC_LOCK, may
from clusterctl.errors import NoAnswerError, UsageError
from clusterctl.facts.model import Facts
from clusterctl.session import schemas, variables
from clusterctl.session.examine import examine
from clusterctl.session.progress import Progress, Silent
from clusterctl.session.schemas import Known
from clusterctl.session.target import Target
from clusterctl.settings import LINT


def lint(
    file: str,
    *,
    ranks: int | None = None,
    reader: Reader | None = None,
    arguments: Sequence[str] = (),
    machines: Machines = UNKNOWN,
    known: Known | None = None,
    name: str = "",
) -> Linted:
    """``reader`` None: transformers where something is "auto", else DeepSpeed. ``arguments``: the script's.
    ``known``: what DeepSpeed accepts; by default that of this Python. ``name``: what ``file`` is called in
    what is said.

    Raises UsageError for a file that cannot be read; what is in it is a finding.
    """
    schema, origin = known or schemas.of_this_python()
    text = _text(file)
    try:
        document = read(text)
    except UnreadableError as error:
        found = Finding(
            code="ds.json",
            severity="fail",
            hosts=(),
            observed=error.why,
            symptom="every rank fails when it reads the file",
            fix=mistaken.advice(text),
        )
        remarks: tuple[Remark, ...] = (Remark(line=error.line, finding=found),)
        reader = reader or "deepspeed"
    else:
        flags = transformers.flags(arguments)
        trained = _has_auto(document.data) or transformers.is_meant(flags)
        reader = reader or ("transformers" if trained else "deepspeed")
        situation = Situation(ranks=ranks, reader=reader, flags=flags, machines=machines)
        remarks = judge(Case(document=document, schema=schema, situation=situation))
    return Linted(
        file=name or file,
        ranks=ranks,
        reader=reader,
        deepspeed=schema.version,
        origin=origin,
        remarks=remarks,
    )


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the hosts told; ``silent`` are those that did not answer."""

    machines: Machines
    known: Known
    silent: tuple[str, ...] = ()


def ask(target: Target, *, progress: Progress = Silent) -> Asked:
    """What hosts have, and what their DeepSpeed accepts. Raises NoAnswerError where none answers."""
    link = target.connect()
    try:
        seen = examine(target, link, layers=variables.read(target), quick=True, progress=progress)
        facts = seen.answers.facts
        if not facts:
            raise NoAnswerError(
                "no host gave an answer", hint="clusterctl doctor; without --ask nobody is asked"
            )
        silent = tuple(name for name in target.names if name not in facts)
        known = schemas.of_hosts(facts, link, progress)
        return Asked(machines=machines_of(facts), known=known, silent=silent)
    finally:
        link.close()


def machines_of(facts: Mapping[str, Facts]) -> Machines:
    """The least that the hosts have."""
    cards = [card.memory_total for each in facts.values() for card in each.nvidia.gpus if card.memory_total]
    rocm = any(each.python.torch_hip for each in facts.values())
    locked = [limit for each in facts.values() if (limit := _lockable(each)) is not None]
    return Machines(
        cpu=bool(facts) and not cards and not rocm,
        gpu_memory=min(cards, default=None),
        lockable=min(locked, default=None),
    )


def _lockable(facts: Facts) -> int | None:
    """What a process there may lock in memory; None where nothing limits it, or nobody knows."""
    return None if may(facts, CAP_IPC_LOCK) else facts.limits.memlock


def _text(file: str) -> str:
    path = Path(file).expanduser()
    try:
        if path.is_dir():
            raise UsageError(f"{file} is a directory", hint="name the config in it")
        with path.open("rb") as stream:
            data = stream.read(LINT.max_bytes + 1)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", hint="clusterctl lint FILE") from error
    except ValueError as error:  # a zero byte in the name
        raise UsageError("that cannot be the name of a file", hint="clusterctl lint FILE") from error
    if len(data) > LINT.max_bytes:
        raise UsageError(
            f"{file} is larger than {LINT.max_bytes // 1_000_000} MB, which no config is",
            hint="name the DeepSpeed config, a file of JSON",
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{file} is not text in UTF-8", hint="name the DeepSpeed config, a file of JSON"
        ) from error


def _has_auto(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_auto(each) for key, each in value.items() if key not in ("pipeline", "data_types"))
    return isinstance(value, str) and value == "auto"

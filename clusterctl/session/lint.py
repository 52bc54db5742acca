"""A training config on this machine, judged before anything starts. Nobody is asked."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from clusterctl.advise.lint import transformers
from clusterctl.advise.lint.case import Case, Linted, Origin, Reader, Remark, Situation
from clusterctl.advise.lint.judge import judge
from clusterctl.advise.lint.schema import Schema, decode
from clusterctl.advise.lint.text import UnreadableError, read
from clusterctl.checks.finding import Finding
from clusterctl.errors import UsageError
from clusterctl.session.told_by_python import told
from clusterctl.settings import LINT


def lint(
    file: str,
    *,
    ranks: int | None = None,
    reader: Reader | None = None,
    arguments: Sequence[str] = (),
    cpu: bool = False,
    gpu_memory: int | None = None,
    name: str = "",
) -> Linted:
    """``reader`` None: transformers where something is "auto", else DeepSpeed. ``arguments``: the script's.
    ``name``: what ``file`` is called in what is said.

    Raises UsageError for a file that cannot be read; what is in it is a finding.
    """
    schema, origin = known_schema()
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
        )
        remarks: tuple[Remark, ...] = (Remark(line=error.line, finding=found),)
        reader = reader or "deepspeed"
    else:
        reader = reader or ("transformers" if _has_auto(document.data) else "deepspeed")
        flags = transformers.flags(arguments)
        situation = Situation(ranks=ranks, reader=reader, flags=flags, cpu=cpu, gpu_memory=gpu_memory)
        remarks = judge(Case(document=document, schema=schema, situation=situation))
    return Linted(
        file=name or file,
        ranks=ranks,
        reader=reader,
        deepspeed=schema.version,
        origin=origin,
        remarks=remarks,
    )


def recorded_schema() -> Schema:
    """The one that clusterctl brings."""
    return decode((resources.files("clusterctl") / "advise" / "lint" / "recorded.json").read_bytes())


def known_schema() -> tuple[Schema, Origin]:
    """That of the DeepSpeed of this Python where there is one, else the recorded one."""
    recorded = recorded_schema()
    try:
        version = importlib.metadata.version("deepspeed")
    except importlib.metadata.PackageNotFoundError:
        return recorded, "recorded"
    if version == recorded.version:
        return recorded, "installed"
    installed = _installed()
    return (installed, "installed") if installed is not None else (recorded, "recorded")


def _installed() -> Schema | None:
    """What this Python's DeepSpeed accepts, None where it does not say."""
    data = told("deepspeed_schema")
    try:
        return decode(data) if data is not None else None
    except msgspec.MsgspecError:
        return None


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

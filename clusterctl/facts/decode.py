"""A node's answer as typed facts. Nodes are strange machines: one bad value costs itself, never the rest."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec

from clusterctl.errors import in_words
from clusterctl.facts.model import Facts, NcclPick, TorchImport
from clusterctl.facts.sections import untold

Value = TypeVar("Value", bound=msgspec.Struct)


def decode_facts(host: str, answer: Mapping[str, Any], **seen: Any) -> Facts:
    """Facts about ``host``. What has the wrong shape is left at its default and named in ``errors``, as are
    parts of which nothing was told.

    ``seen`` holds fields that only the asking side knows, such as ``noise``.
    """
    values, errors = _fields(Facts, answer)
    values.setdefault("hostname", host)
    errors = [*values.pop("errors", ()), *errors]
    errors += untold(answer.keys(), errors)
    return Facts(**{**values, **seen, "host": host, "errors": tuple(errors)})


def decode_torch(answer: Mapping[str, Any]) -> TorchImport:
    """What one real import showed. An answer without ``ok`` counts as a failed import."""
    values, errors = _fields(TorchImport, answer)
    values.setdefault("ok", False)
    if errors and not values.get("error"):
        values["error"] = "; ".join(errors)
    return TorchImport(**values)


def decode_nccl(answer: Mapping[str, Any]) -> NcclPick:
    """What libnccl said. An answer that says nothing is none that can be judged."""
    values, errors = _fields(NcclPick, answer)
    said = NcclPick(**values)
    if not (said.address or said.refused or said.missing or said.unknown):
        said = NcclPick(unknown="; ".join(errors) or "libnccl's answer says nothing")
    return said


# msgspec reads a type's annotations anew each time, which costs more than all the values.
_fields_of = cache(msgspec.structs.fields)


def _fields(model: type[Value], answer: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    errors: list[str] = []
    for field in _fields_of(model):
        if field.name not in answer:
            continue
        try:
            values[field.name] = msgspec.convert(answer[field.name], field.type)
        except msgspec.ValidationError as error:
            errors.append(f"{field.name}: {in_words(error)}")
    return values, errors

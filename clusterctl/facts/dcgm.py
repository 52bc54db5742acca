"""What ``dcgmi diag --json`` found, in the shapes of versions 3 and 4. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

CONFIGURATION = 5
"""DCGM's own severity for what is set, not sick, such as persistence mode."""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """One test that failed on one GPU; ``gpu`` None is the whole host. ``configuration``: a setting only."""

    test: str
    gpu: int | None
    text: str
    configuration: bool = False


class Dcgm(msgspec.Struct, frozen=True, kw_only=True):
    """``present`` is false where there is no dcgmi. ``error`` says why nothing is known."""

    present: bool = False
    tests: int = 0
    failed: tuple[Diagnosis, ...] = ()
    error: str = ""


def parse(text: str) -> Dcgm:
    """Whatever stands around the JSON, such as a line of greeting, is passed over."""
    begin, end = text.find("{"), text.rfind("}")
    try:
        document = json.loads(text[begin : end + 1]) if begin >= 0 else None
    except (ValueError, RecursionError):
        document = None
    found = document if isinstance(document, dict) else {}
    root = next((found[key] for key in ("DCGM Diagnostic", "DCGM GPU Diagnostic") if key in found), None)
    if not isinstance(root, dict):
        said = next((line.strip() for line in text.splitlines() if line.strip()), "nothing")
        return Dcgm(present=True, error=f"dcgmi gave no report: {said[:200]}")
    if root.get("runtime_error"):
        return Dcgm(present=True, error=str(root["runtime_error"])[:200])
    results = list(_results(root))
    failed = tuple(
        each
        for test, result in results
        if str(result.get("status")).lower() == "fail"
        for each in _diagnoses(test, result)
    )
    return Dcgm(present=True, tests=len(results), failed=failed)


def _results(root: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for category in _dicts(root.get("test_categories")):
        for test in _dicts(category.get("tests")):
            for result in _dicts(test.get("results")):
                yield str(test.get("name", "?")), result


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    return (each for each in value if isinstance(each, dict)) if isinstance(value, list) else iter(())


def _diagnoses(test: str, result: dict[str, Any]) -> Iterator[Diagnosis]:
    warnings = result.get("warnings", result.get("warning"))
    kept = [each if isinstance(each, dict) else {"warning": each} for each in _list(warnings)]
    text = "; ".join(str(each.get("warning", "")) for each in kept).strip("; ")[:300]
    configuration = bool(kept) and all(each.get("error_severity") == CONFIGURATION for each in kept)
    for gpu in _gpus(result):
        yield Diagnosis(test=test, gpu=gpu, text=text or "failed", configuration=configuration)


def _list(value: Any) -> list[Any]:
    if value in (None, ""):
        return []
    return value if isinstance(value, list) else [value]


def _gpus(result: dict[str, Any]) -> tuple[int | None, ...]:
    if result.get("entity_group") == "GPU" and isinstance(result.get("entity_id"), int):
        return (result["entity_id"],)
    told = str(result.get("gpu_ids", "")) or str(result.get("gpu_id", ""))
    found = tuple(int(part) for part in told.split(",") if part.strip().isdecimal())
    return found or (None,)

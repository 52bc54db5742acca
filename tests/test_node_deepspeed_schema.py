"""The program that asks an installed DeepSpeed what it accepts, and the answer that clusterctl brings."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import msgspec
import pytest

from clusterctl.advise.lint.schema import decode
from clusterctl.session import schemas, told_by_python
from clusterctl.session.schemas import recorded

ROOT = Path(__file__).parents[1]


def _installed() -> str:
    return importlib.metadata.version("deepspeed") if importlib.util.find_spec("deepspeed") else ""


@pytest.mark.training
@pytest.mark.skipif(_installed() != recorded().version, reason="another DeepSpeed than the recorded one")
def test_the_recorded_schema_is_that_of_the_installed_deepspeed() -> None:
    data = told_by_python.told("deepspeed_schema")
    assert data is not None
    told = decode(data)
    # What torch brings changes with torch.
    assert told == msgspec.structs.replace(
        recorded(),
        torch_optimizers=told.torch_optimizers,
        torch_schedulers=told.torch_schedulers,
        adam=told.adam,
    )
    assert all({"lr", "betas", "eps", "weight_decay"} <= set(names) for names in told.adam.values())
    assert "step_size" in told.torch_schedulers["StepLR"].required
    assert {"SGD", "AdamW"} <= set(told.torch_optimizers)


def test_an_interpreter_without_deepspeed_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    for path in (python, tmp_path / "none"):
        monkeypatch.setattr(sys, "executable", str(path))
        assert told_by_python.told("deepspeed_schema") is None


def test_what_it_is_asked_for_is_what_this_package_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", missing)
    schema, origin = schemas.of_this_python()
    assert origin == "recorded" and schema == recorded()


def test_another_version_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    other = msgspec.structs.replace(recorded(), version="0.99.0")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.99.0")
    monkeypatch.setattr(schemas, "told", lambda _: msgspec.json.encode(other))
    assert schemas.of_this_python() == (other, "installed")
    monkeypatch.setattr(schemas, "told", lambda _: None)
    assert schemas.of_this_python() == (recorded(), "recorded")

"""The program that asks an installed DeepSpeed what it accepts, and the answer that clusterctl brings."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import msgspec
import pytest

from clusterctl.session import lint
from clusterctl.session.lint import recorded_schema

ROOT = Path(__file__).parents[1]


def _installed() -> str:
    return importlib.metadata.version("deepspeed") if importlib.util.find_spec("deepspeed") else ""


@pytest.mark.training
@pytest.mark.skipif(
    _installed() != recorded_schema().version, reason="another DeepSpeed than the recorded one"
)
def test_the_recorded_schema_is_that_of_the_installed_deepspeed() -> None:
    import sys

    told = lint._asked(sys.executable)
    recorded = recorded_schema()
    assert told is not None
    # What torch brings changes with torch.
    assert told == msgspec.structs.replace(
        recorded,
        torch_optimizers=told.torch_optimizers,
        torch_schedulers=told.torch_schedulers,
        adam=told.adam,
    )
    assert {"lr", "betas", "eps", "weight_decay"} <= set(told.adam)
    assert {"SGD", "AdamW"} <= set(told.torch_optimizers)


def test_an_interpreter_without_deepspeed_says_nothing(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    assert lint._asked(str(python)) is None
    assert lint._asked(str(tmp_path / "none")) is None


def test_what_it_is_asked_for_is_what_this_package_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", missing)
    schema, origin = lint.known_schema()
    assert origin == "recorded" and schema == recorded_schema()


def test_another_version_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    other = msgspec.structs.replace(recorded_schema(), version="0.99.0")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.99.0")
    monkeypatch.setattr(lint, "_asked", lambda _: other)
    assert lint.known_schema() == (other, "installed")
    monkeypatch.setattr(lint, "_asked", lambda _: None)
    assert lint.known_schema() == (recorded_schema(), "recorded")

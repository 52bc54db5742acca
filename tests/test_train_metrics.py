from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

import metrics


def test_a_line_is_whole_at_once_and_holds_what_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(metrics.VARIABLE, raising=False)
    assert metrics.from_environment() is None
    monkeypatch.setenv(metrics.VARIABLE, str(tmp_path / "new" / "rank3.jsonl"))
    lines = metrics.from_environment()
    assert lines is not None
    lines.write(step=1, loss=2.5, mfu=None)
    lines.write(step=2, loss=float("nan"), grad_norm=float("-inf"), skipped=0)
    first, second = map(json.loads, (tmp_path / "new" / "rank3.jsonl").read_text().splitlines())
    assert first.pop("t") <= second.pop("t")
    assert first == {"step": 1, "loss": 2.5}
    assert second == {"step": 2, "loss": "nan", "grad_norm": "-inf", "skipped": 0}


def test_a_full_disk_costs_lines_and_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = metrics.JsonLines(Path("/dev/full"))
    lines.write(step=1)
    lines.write(step=2)
    assert capsys.readouterr().err == "/dev/full lacks lines from here on: No space left on device\n"

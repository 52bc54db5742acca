"""Which profile a name on the command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterctl.errors import UsageError
from clusterctl.session.profiles import read

ENVS = Path(__file__).parents[1] / "envs"


@pytest.mark.parametrize("name", ["cpu", "cuda12", "cuda13"])
def test_a_shipped_profile_goes_by_its_name_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(name) == read(str(ENVS / f"{name}.yaml"))


def test_the_user_s_own_file_of_that_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cpu").write_text("env: {MINE: '1'}\n")
    assert read("cpu") != read(str(ENVS / "cpu.yaml"))


def test_what_is_neither_is_told_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="No such file") as caught:
        read("gpu")
    assert "cpu, cuda12, cuda13" in caught.value.hint

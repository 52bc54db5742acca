"""What was typed as a script, held against the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterctl.errors import UsageError
from clusterctl.session.options import LaunchOptions
from clusterctl.session.workload import resolve


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("python train.py --lr 1", "clusterctl launch train.py --lr 1"),
        ("python3.11 -u train.py", "clusterctl launch train.py"),
        ("/usr/bin/python3 -m pkg.train", "clusterctl launch -m pkg.train"),
        ("torchrun --nproc-per-node 8 train.py 'a b'", "clusterctl launch train.py 'a b'"),
        ("deepspeed", "clusterctl launch SCRIPT [ARGS]..."),
    ],
)
def test_a_starter_of_its_own_is_left_out(words: str, hint: str) -> None:
    import shlex

    script, *arguments = shlex.split(words)
    with pytest.raises(UsageError, match="leave out") as caught:
        resolve(LaunchOptions(script=script, arguments=tuple(arguments)))
    assert caught.value.hint == hint


def test_a_folder_and_a_file_for_a_module_are_said(project: Path) -> None:
    (project / "pkg").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        resolve(LaunchOptions(script="pkg"))
    with pytest.raises(UsageError, match="is a file") as caught:
        resolve(LaunchOptions(script="train.py", module=True))
    assert caught.value.hint == "leave out -m"


def test_a_program_may_bear_such_a_name(project: Path) -> None:
    found = resolve(LaunchOptions(script="python", arguments=("x.py",), python=False))
    assert found.command == ("python",)
    (project / "python").write_text("")
    assert resolve(LaunchOptions(script="python")).command == ("{python}", "-u", "python")

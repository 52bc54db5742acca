"""What was typed as a script, held against the disk."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from clusterctl.errors import UsageError
from clusterctl.session.options import LaunchOptions
from clusterctl.session.workload import resolve, understood


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    return tmp_path


def command_of(text: str, **how: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    script, *arguments = shlex.split(text)
    options, _ = understood(LaunchOptions(script=script, arguments=tuple(arguments), **how))
    return resolve(options).command, options.arguments


def test_what_another_launcher_would_start_is_what_runs() -> None:
    assert command_of("python train.py --lr 1") == (("{python}", "-u", "train.py"), ("--lr", "1"))
    assert command_of("torchrun --nproc-per-node 8 -m pkg 'a b'") == (
        ("{python}", "-u", "-m", "pkg"),
        ("a b",),
    )
    options, meant = understood(
        LaunchOptions(script="deepspeed", arguments=("--no_local_rank", "--master_port=1", "train.py"))
    )
    assert meant is not None and (options.engine, options.local_rank) == ("deepspeed", False)
    with pytest.raises(UsageError, match="--engine torchrun") as caught:
        understood(LaunchOptions(script="deepspeed", arguments=("train.py",), engine="torchrun"))
    assert caught.value.hint == "leave out one of them"
    assert [(each.name, each.value) for each in options.settings] == [("MASTER_PORT", "1")]


def test_an_environment_inside_the_project_is_not_the_project(project: Path) -> None:
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "pyvenv.cfg").write_text("")
    (project / ".venv" / "bin" / "torchrun").write_text("")
    (project / "tools").mkdir()
    (project / "tools" / "torchrun").write_text("")
    assert command_of(".venv/bin/torchrun train.py")[0] == ("{python}", "-u", "train.py")
    assert command_of("tools/torchrun train.py") == (("{python}", "-u", "tools/torchrun"), ("train.py",))


def test_a_shell_script_is_not_given_to_python(project: Path) -> None:
    (project / "run.sh").write_text("")
    with pytest.raises(UsageError, match="shell script") as caught:
        command_of("run.sh")
    assert "--no-python" in caught.value.hint
    assert command_of("run.sh", python=False)[0] == ("./run.sh",)


def test_a_folder_and_a_file_for_a_module_are_said(project: Path) -> None:
    (project / "pkg").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        resolve(LaunchOptions(script="pkg"))
    with pytest.raises(UsageError, match="is a file") as caught:
        resolve(LaunchOptions(script="train.py", module=True))
    assert caught.value.hint == "leave out -m"


def test_a_program_may_bear_such_a_name(project: Path) -> None:
    assert command_of("python x.py", python=False) == (("python",), ("x.py",))
    (project / "python").write_text("")
    assert command_of("python x.py") == (("{python}", "-u", "python"), ("x.py",))

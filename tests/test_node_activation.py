"""What bash makes of an activation line, on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from clusterctl.node.probe import activation
from clusterctl.node.probe import main as probe
from clusterctl.node.probe import python as probe_python

PATH = "/usr/bin:/bin"


def activate(line: str, home: Path, timeout: float = 20, **environ: str) -> dict[str, Any]:
    found: dict[str, Any] = activation.activate(line, {"HOME": str(home), "PATH": PATH, **environ}, timeout)
    return found


def put(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def test_only_what_differs_is_told(tmp_path: Path) -> None:
    line = """
echo noise; echo noise >&2
export NEW="two words
and a line" SAME=1 HOW='$HOME `id`'
unset GONE
not_exported=1; f() { :; }; export -f f
cd /
"""
    found = activate(line, tmp_path, SAME="1", GONE="1", KEPT="1")
    assert found == {
        "variables": {"HOW": "$HOME `id`", "NEW": "two words\nand a line"},
        "removed": ["GONE"],
        "error": "",
    }


def test_bytes_that_are_no_text_stay_behind(tmp_path: Path) -> None:
    found = activate("export ODD=$'\\xff' FINE=ünïcödé", tmp_path)
    assert found["variables"] == {"FINE": "ünïcödé"}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("condo activate x", "ended with exit code 127: condo: command not found"),
        ("echo one >&2; echo two >&2; exit 3", "ended with exit code 3: two"),
        ("false", "ended with exit code 1"),
        ("set -e\nfalse\ntrue", "ended with exit code 1"),
        ("exit 0", "ended the shell (exit or exec)"),
        ("exec true", "ended the shell (exit or exec)"),
        ("echo 'Error: no env' >&2; echo 'see --help' >&2; false", "ended with exit code 1: Error: no env"),
        ("if true", "ended with exit code 2: syntax error: unexpected end of file"),
        ("source /not/there", "ended with exit code 1: /not/there: No such file or directory"),
    ],
)
def test_a_line_that_fails_says_so_in_its_own_words(tmp_path: Path, line: str, error: str) -> None:
    assert activate(line, tmp_path) == {"variables": {}, "removed": [], "error": error}


def test_a_line_that_hangs_is_ended(tmp_path: Path) -> None:
    found = activate("echo asking >&2; exec sleep 600", tmp_path, timeout=0.5)
    assert found["error"] == "did not end within 0.5 s: asking"


def test_a_question_finds_nobody_and_a_daemon_holds_nobody_up(tmp_path: Path) -> None:
    found = activate("sleep 3 & read answer; export ANSWER=none$answer", tmp_path)
    assert found["variables"] == {"ANSWER": "none"}


def test_no_bash_is_an_error_and_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "defpath", str(tmp_path))
    found = activation.activate("true", {"HOME": str(tmp_path), "PATH": str(tmp_path)}, 5)
    assert found["error"] == "there is no bash on this host"


FUNCTION = "conda() { export CONDA_USED=$1-$2-FROM; }\n"


@pytest.mark.parametrize("place", ["usual", "named in .bashrc", "on PATH", "CONDA_EXE"])
def test_conda_is_found_where_its_installers_put_it(tmp_path: Path, place: str) -> None:
    root = tmp_path / ("miniconda3" if place == "usual" else "sw/conda")
    put(root / "etc/profile.d/conda.sh", FUNCTION.replace("FROM", "here"))
    put(root / "bin/conda", "#!/bin/sh\nexit 1\n", 0o755)
    environ = {}
    if place == "named in .bashrc":
        block = f"__conda_setup=\"$('{root}/bin/conda' 'shell.bash' 'hook' 2> /dev/null)\"\n"
        put(tmp_path / ".bashrc", f"[[ $- == *i* ]] || exit 9\n{block}")
    elif place == "on PATH":
        environ["PATH"] = f"{root}/bin:{PATH}"
    elif place == "CONDA_EXE":
        environ["CONDA_EXE"] = f"{root}/bin/conda"
    found = activate("conda activate train", tmp_path, 20, **environ)
    assert found["variables"] == {"CONDA_USED": "activate-train-here"}, found


def test_micromamba_defines_itself(tmp_path: Path) -> None:
    hook = 'micromamba() { export MAMBA_USED="$*"; }'
    put(tmp_path / ".local/bin/micromamba", f"#!/bin/sh\n[ \"$1\" = shell ] && echo '{hook}'\n", 0o755)
    found = activate("micromamba activate train", tmp_path)
    assert found["variables"] == {"MAMBA_USED": "activate train"}


def test_module_is_found_after_module_systems_are_installed(tmp_path: Path) -> None:
    put(tmp_path / "lmod/init/bash", 'module() { export LOADED="$2"; }\n')
    found = activate("module load cuda/12.4", tmp_path, LMOD_PKG=str(tmp_path / "lmod"))
    assert found["variables"] == {"LOADED": "cuda/12.4"}


def test_the_users_own_settings_are_not_changed_by_the_line(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "PATH": PATH, "MINE": "user", "LEFT": "user"}
    request = {
        "activate": "export MINE=line OTHER=line; unset LEFT",
        "activation_timeout": 20,
        "env": {"MINE": "user", "LEFT": "user"},
    }
    found = probe.activate(request, environ)["activation"]
    assert (found["variables"], found["removed"]) == ({"OTHER": "line"}, [])
    assert (environ["MINE"], environ["LEFT"], environ["OTHER"]) == ("user", "user", "line")


def test_the_first_python_of_the_activated_path_is_the_one(tmp_path: Path) -> None:
    python = shutil.which("python3")
    assert python
    for name in ("first/python", "second/python3"):
        put(tmp_path / name, f'#!/bin/sh\nexec {python} "$@"\n', 0o755)
    environ = {"PATH": f"{tmp_path}/none:{tmp_path}/first:{tmp_path}/second:{PATH}", "HOME": str(tmp_path)}
    request = {"activation": {"error": ""}, "controller_python": python}
    put(tmp_path / "first/python", '#!/bin/sh\necho \'["/the/first", "3.11.2", []]\'\n', 0o755)
    found = probe_python.python(request, environ)["python"]
    assert (found["executable"], found["requested"]) == ("/the/first", "python3 of the activated PATH")
    broken = probe_python.python({"activation": {"error": "x"}, "controller_python": python}, environ)[
        "python"
    ]
    assert broken["error"] == "the activation line failed"

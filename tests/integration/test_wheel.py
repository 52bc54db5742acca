"""The built wheel as people have it: outside the checkout, on a machine without anything that trains."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from clusterctl.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
TINY = ("--steps", "2", "--log_every", "1", "--n_layer", "1", "--d_model", "64", "--n_head", "2")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    argv = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(argv, check=True, capture_output=True)
    (found,) = out.glob("clusterctl-*.whl")
    return found


@pytest.fixture(scope="module")
def laptop(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of a virtual environment with the wheel and what it declares to need, no more."""
    home = tmp_path_factory.mktemp("laptop") / "venv"
    venv.create(home, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin/python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    for top in needed_by("clusterctl"):
        link = packages / top.name
        if not link.exists():
            link.symlink_to(top)
    return home / "bin"


def needed_by(name: str) -> Iterator[Path]:
    """What ``name`` requires without extras, as top-level files and directories of this environment."""
    waiting, seen = [name], {name}
    while waiting:
        for line in distribution(waiting.pop()).requires or ():
            wanted = Requirement(line)
            if wanted.name in seen or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
                continue
            seen.add(wanted.name)
            waiting.append(wanted.name)
            found = distribution(wanted.name)
            tops = {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}
            yield from (Path(str(found.locate_file(top))) for top in sorted(tops))


def call(laptop: Path, cwd: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [str(laptop / "clusterctl"), *words],
        cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_wheel_holds_workload_profiles_and_what_travels_to_nodes(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    node = "clusterctl/node/run/agent.py"
    assert {"clusterctl/_train/pretrain.py", "clusterctl/_envs/cpu.yaml", node} <= names
    for shipped, place in (("train", "_train"), ("envs", "_envs")):
        here = {path.relative_to(ROOT / shipped).as_posix() for path in tracked(ROOT / shipped)}
        there = {name.removeprefix(f"clusterctl/{place}/") for name in names if f"/{place}/" in name}
        assert there == here
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests", "bench"))]


def tracked(directory: Path) -> Iterator[Path]:
    for path in directory.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def test_every_verb_explains_itself_without_torch(laptop: Path, tmp_path: Path) -> None:
    probe = [str(laptop / "python"), "-c", "import torch"]
    assert subprocess.run(probe, capture_output=True, check=False, cwd=tmp_path).returncode != 0
    assert "launch" in call(laptop, tmp_path, ["--help"]).stdout
    for verb in ("doctor", "launch", "logs", "runs", "pull", "env", "exec", "init", "sandbox"):
        told = call(laptop, tmp_path, [verb, "--help"])
        assert told.returncode == 0 and "Usage" in told.stdout, told.stderr


def test_shipped_profiles_are_found(laptop: Path, tmp_path: Path) -> None:
    script = "from clusterctl.session.profiles import read; print(read('cpu').description)"
    told = subprocess.run(
        [str(laptop / "python"), "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stdout == "PyTorch on CPUs\n"


@pytest.mark.sandbox
@pytest.mark.training
def test_the_shipped_workload_trains_from_a_laptop_without_torch(
    laptop: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    pytest.importorskip("deepspeed")
    words = ["launch", "-H", str(sandbox.hostfile), "--nodes", "2", "--gpus-per-node", "1", "--", *TINY]
    launched = call(laptop, tmp_path, words)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert "step 2/2" in launched.stdout
    assert "node2" in launched.stdout and "succeeded" in launched.stdout
    assert list(tmp_path.iterdir()) == []

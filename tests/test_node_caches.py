"""The directory of a node for compiled kernels: ours alone, or one for the run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clusterctl.node.run import caches
from clusterctl.node.run.directory import NodeDirectory


@pytest.fixture
def directory(tmp_path: Path) -> NodeDirectory:
    (tmp_path / "run").mkdir()
    return NodeDirectory(str(tmp_path / "run"))


def env_of(root: Path) -> dict[str, str]:
    return {"TRITON_CACHE_DIR": f"{root}/triton", "OTHER": f"{root}x/stays", "A": "1"}


def prepared(directory: NodeDirectory, root: Path) -> tuple[Path, str]:
    env, note = caches.prepare(directory, str(root), env_of(root), "r")
    assert {"OTHER": env["OTHER"], "A": env["A"]} == {"OTHER": f"{root}x/stays", "A": "1"}
    place = Path(env["TRITON_CACHE_DIR"])
    assert place.is_dir() and place.parent.stat().st_mode & 0o777 == 0o700
    return place.parent, str(note)


def test_it_is_made_private_and_used_again(directory: NodeDirectory, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    assert prepared(directory, root) == (root, "")
    (root / "triton" / "kernel").write_text("")
    assert prepared(directory, root) == (root, "")
    caches.remove(directory)
    assert (root / "triton" / "kernel").exists()


@pytest.mark.parametrize("trap", ["open", "link", "file", "owner"])
def test_what_somebody_else_could_have_laid_is_not_used(
    directory: NodeDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    root, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if trap == "open":
        root.mkdir()
        root.chmod(0o770)
    elif trap == "link":
        root.symlink_to(elsewhere)
    elif trap == "file":
        root.write_text("")
    else:
        root.mkdir(mode=0o700)
        own = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: own + (len(list(tmp_path.glob("cluster*"))) == 0))
    place, note = prepared(directory, root)
    assert place != root and place.parent == tmp_path and str(root) in note
    assert not list(elsewhere.iterdir())
    caches.remove(directory)
    assert not place.exists()


def test_a_full_disk_costs_the_caches_and_not_the_run(directory: NodeDirectory, tmp_path: Path) -> None:
    root = tmp_path / "missing" / "cache"
    env, note = caches.prepare(directory, str(root), env_of(root), "r")
    assert "TRITON_CACHE_DIR" not in env and env["A"] == "1"
    assert "No such file" in note and "home directory" in note

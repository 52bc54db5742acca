"""How what travels differs from the last commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from clusterctl.ask import git
from clusterctl.ask.git import Look
from clusterctl.ask.tree import scan
from clusterctl.plan.model import GitState


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "a@b")
    (tmp_path / "sub").mkdir()
    for name in ("a.py", "b.py", "sub/c d.py", ".gitignore"):
        (tmp_path / name).write_text("*.bin\n" if name == ".gitignore" else "1")
    run(tmp_path, "init", "-q")
    run(tmp_path, "add", ".")
    run(tmp_path, "commit", "-qm", "first")
    return tmp_path


def run(top: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=top, check=True, capture_output=True, text=True).stdout.strip()


def state(root: Path) -> GitState | None:
    return Look(root, scan(root).files).result()


def test_what_was_committed_is_known_by_its_commit(top: Path) -> None:
    assert state(top) == GitState(commit=run(top, "rev-parse", "HEAD"))


def test_changes_and_new_files_that_travel_are_counted(top: Path) -> None:
    (top / "a.py").write_text("2")
    (top / "sub" / "c d.py").write_text("2")
    run(top, "rm", "-q", "b.py")
    (top / "new\nline.py").write_text("")
    (top / "sub" / "new.py").write_text("")
    (top / "big.bin").write_text("")
    (top / ".venv").mkdir()
    (top / ".venv" / "x.py").write_text("")
    found = state(top)
    assert found is not None and (found.changed, found.untracked) == (3, 2)
    found = state(top / "sub")
    assert found is not None and (found.changed, found.untracked) == (1, 1)


def test_a_staged_file_differs_too(top: Path) -> None:
    (top / "new.py").write_text("")
    run(top, "add", "new.py")
    found = state(top)
    assert found is not None and (found.changed, found.untracked) == (1, 0)


def test_without_a_commit_or_a_repository_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    assert state(tmp_path) is None
    run(tmp_path, "init", "-q")
    assert state(tmp_path) is None
    (tmp_path / ".git" / "index").write_bytes(b"nonsense")
    assert state(tmp_path) is None


def test_a_git_that_is_missing_or_hangs_holds_up_nobody(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "_GIT", ("sleep", "600"))
    monkeypatch.setattr(git, "_TIMEOUT", 0.05)
    assert state(top) is None
    monkeypatch.setattr(git, "_GIT", ("no-such-program",))
    assert state(top) is None


def test_merges_and_submodules_are_understood() -> None:
    status = (
        b"# branch.oid 0123abcd\0# branch.head main\0"
        b"u UU N... 100644 100644 100644 100644 a b c both.py\0"
        b"1 .M SC.. 160000 160000 160000 a b lib\0"
        b"1 .M N... 100644 100644 100644 a b left out.py\0"
        b"1 .D N... 100644 100644 000000 a b gone.py\0"
        b"? new.py\0? stays.log\0"
    )
    files = dict.fromkeys(("both.py", "lib/x.py", "new.py"), "")
    assert git.counted(status, files) == GitState(commit="0123abcd", changed=3, untracked=1)
    assert git.counted(b"# branch.oid (initial)\0", files) is None

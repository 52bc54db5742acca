"""What travels for a script: this directory, or the git repository it is part of."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from clusterctl.ask import repository
from clusterctl.errors import UsageError
from clusterctl.session.options import LaunchOptions
from clusterctl.session.workload import Workload, checkpoints_of, resolve


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository, in a home directory that is none; the test stands in its subdirectory ``sub``."""
    folder = tmp_path / "home/top"
    (folder / "sub").mkdir(parents=True)
    (folder / "library.py").write_text("x = 1")
    (folder / "sub/train.py").write_text("import library")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(folder / "sub")
    return folder


def resolved(script: str = "train.py", *, workdir: str = "", sync: bool = True, limit: str = "") -> Workload:
    return resolve(LaunchOptions(script=script, workdir=workdir, sync=sync, sync_limit=limit))


def travels(work: Workload) -> set[str]:
    assert work.tree is not None
    assert (work.code.root, work.code.digest) == (work.tree.root, work.tree.digest)
    return set(work.tree.files)


def test_the_repository_travels_and_the_run_starts_where_it_was_launched(top: Path) -> None:
    work = resolved()
    assert travels(work) == {"library.py", "sub/train.py"}
    assert (work.code.root, work.code.subdirectory, work.code.repository) == (str(top), "sub", True)
    assert (work.command, work.code.notes) == (("{python}", "-u", "train.py"), ())
    assert resolved("../library.py").command[-1] == "../library.py"


def test_a_directory_that_is_named_travels_alone(top: Path) -> None:
    work = resolved(workdir=".")
    assert travels(work) == {"train.py"}
    assert (work.code.root, work.code.subdirectory, work.code.repository) == (str(top / "sub"), "", False)
    with pytest.raises(UsageError, match="outside the working directory"):
        resolved("../library.py", workdir=".")


def test_what_may_not_be_looked_at_is_named(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refused)
    with pytest.raises(UsageError, match="/closed cannot be read: Permission denied"):
        resolved(workdir="/closed")


def test_without_a_copy_the_directory_stays_as_it_is(top: Path) -> None:
    work = resolved(sync=False)
    assert (work.tree, work.code.root, work.code.digest) == (None, str(top / "sub"), "")


def test_at_the_top_nothing_is_said(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(top)
    work = resolved("sub/train.py")
    assert (work.code.repository, work.code.subdirectory, work.code.notes) == (False, "", ())


def test_a_repository_that_is_too_big_is_said_and_stays(top: Path) -> None:
    (top / "weights").write_bytes(b"x" * 3_000_000)
    work = resolved(limit="2MB")
    assert travels(work) == {"train.py"}
    assert "holds 3.0 MB" in work.code.notes[0]
    assert "weights (3.0 MB)" in work.code.notes[0]
    assert travels(resolved(limit="4MB")) == {"library.py", "weights", "sub/train.py"}


def test_a_home_directory_that_is_a_repository_stays(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (top / ".gitignore").write_text("*")
    monkeypatch.setenv("HOME", str(top))
    work = resolved()
    assert travels(work) == {"train.py"}, "rules for dotfiles are no rules for a project"
    assert work.code.notes == ()
    (top / ".gitignore").unlink()
    assert "not a working directory" in resolved().code.notes[0]


def test_what_its_repository_leaves_out_is_a_project_of_its_own(top: Path) -> None:
    (top / ".gitignore").write_text("sub/")
    work = resolved()
    assert (travels(work), work.code.notes) == ({"train.py"}, ())


def test_somebody_elses_repository_is_not_believed(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "is_own", lambda found: False)
    work = resolved()
    assert travels(work) == {"train.py"}
    assert "belongs to somebody else" in work.code.notes[0]


@pytest.mark.parametrize("text", ["", "gitdir: nowhere", "\xff", "gitdir: ../.."])
def test_a_git_file_that_leads_nowhere_makes_no_repository(top: Path, text: str) -> None:
    (top / "sub/.git").write_text(text, encoding="latin-1")
    assert resolved().code.root == str(top)


def test_submodules_are_repositories_of_their_own(top: Path) -> None:
    real = top / ".git/modules/sub"
    (real / "info").mkdir(parents=True)
    (real / "HEAD").write_text("ref: refs/heads/main")
    (real / "info/exclude").write_text("hidden")
    (top / "sub/hidden").write_text("x")
    (top / "sub/.git").write_text("gitdir: ../.git/modules/sub\n")
    assert travels(resolved()) == {"train.py"}


def test_what_stays_here_is_named(top: Path) -> None:
    (top / ".gitignore").write_text("*.pt\n")
    for number in range(7):
        (top / f"{number}.pt").write_text("x")
    os.mkfifo(top / "pipe")
    ignored, special = resolved().code.notes
    assert ignored.startswith("left out by .gitignore: 0.pt, 1.pt, 2.pt, 3.pt, 4.pt and 2 more; `!NAME`")
    assert special.endswith(": pipe")


def test_a_directory_that_is_gone_is_said(top: Path) -> None:
    (top / "sub/train.py").unlink()
    (top / "sub").rmdir()
    with pytest.raises(UsageError, match="is gone"):
        resolved()


@pytest.mark.parametrize(
    ("arguments", "directory", "again"),
    [
        ("--steps 9", "", None),
        ("--steps 9 --save_dir /c", "/c", "--steps 9 --save_dir /c --resume auto"),
        ("--save_dir=/c --resume /old --steps 9", "/c", "--save_dir /c --steps 9 --resume auto"),
    ],
)
def test_the_shipped_workload_says_where_it_saves_and_goes_on_from_there(
    arguments: str, directory: str, again: str | None
) -> None:
    found, words = checkpoints_of(LaunchOptions(arguments=tuple(arguments.split())))
    assert found == directory
    assert (None if words is None else " ".join(words)) == again


def test_an_own_script_says_so_by_an_option_and_keeps_its_arguments() -> None:
    options = LaunchOptions(script="t.py", arguments=("--save_dir", "x"), checkpoint_dir="ckpt")
    assert checkpoints_of(options) == ("ckpt", None)

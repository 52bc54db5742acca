"""Code kept on a node between runs: what comes, what stays, what goes."""

from __future__ import annotations

import base64
import io
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterctl.node.run.snapshot import KEEP, ORIGIN, UNUSED_SECONDS, Snapshots


def packed(**files: str) -> str:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("data")
        link.type, link.linkname = tarfile.SYMTYPE, "/somewhere/else"
        tar.addfile(link)
    return base64.b64encode(stream.getvalue()).decode()


def delivered(store: Snapshots, digest: str) -> Path:
    store.begin(digest)
    store.piece(packed(script="print()"))
    store.finish(digest)
    return Path(store.path(digest))


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_run_gets_a_tree_of_its_own(tmp_path: Path) -> None:
    store = Snapshots(str(tmp_path / "store"))
    assert not store.has("abc")
    delivered(store, "abc")
    assert store.has("abc")
    store.copy("abc", str(tmp_path / "work"))
    (tmp_path / "work/script").write_text("changed")
    assert Path(store.path("abc"), "script").read_text() == "print()"
    assert (tmp_path / "work/data").readlink() == Path("/somewhere/else")


@pytest.mark.parametrize(
    ("change", "untouched"),
    [
        (lambda work: None, True),
        (lambda work: (work / "__pycache__").mkdir(), True),
        (lambda work: (work / "outputs").mkdir(), False),
        (lambda work: (work / "model.pt").write_text("weights"), False),
        (lambda work: (work / "script").write_text("print(1)"), False),
        (lambda work: (work / "script").unlink(), False),
    ],
)
def test_a_copy_is_emptied_after_the_run_if_nothing_was_written(
    tmp_path: Path, change: Callable[[Path], object], untouched: bool
) -> None:
    store = Snapshots(str(tmp_path / "store"))
    delivered(store, "abc")
    work, origin = tmp_path / "work", tmp_path / ORIGIN
    store.copy("abc", str(work))
    origin.write_text('"abc"')
    change(work)
    before = sorted(work.iterdir())
    store.release(str(work), str(origin))
    assert sorted(work.iterdir()) == ([] if untouched else before)
    assert origin.exists() is not untouched


def test_a_copy_of_unknown_origin_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/result").write_text("42")
    Snapshots(str(tmp_path / "store")).release(str(tmp_path / "work"), str(tmp_path / ORIGIN))
    assert (tmp_path / "work/result").exists()


def test_the_snapshot_behind_outputs_stays(tmp_path: Path) -> None:
    store = Snapshots(str(tmp_path / "snapshots"))
    for number in range(KEEP + 2):
        age(delivered(store, f"code{number}"), UNUSED_SECONDS + 100 - number)
    run = tmp_path / "20260101-000000-abcd/0"
    run.mkdir(parents=True)
    (run / ORIGIN).write_text('"code0"')
    store.prune()
    assert store.has("code0")
    assert not store.has("code1")


def test_nothing_of_a_delivery_lies_about_afterwards(tmp_path: Path) -> None:
    store = Snapshots(str(tmp_path))
    delivered(store, "abc")
    delivered(store, "abc")
    assert [path.name for path in tmp_path.iterdir()] == ["abc"]


def test_what_was_used_last_stays_and_so_does_what_was_used_today(tmp_path: Path) -> None:
    store = Snapshots(str(tmp_path))
    for number in range(KEEP + 4):
        age(delivered(store, f"old{number}"), UNUSED_SECONDS + 100 - number)
    store.prune()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"old{n}" for n in range(4, KEEP + 4)]
    for number in range(KEEP + 4):
        age(delivered(store, f"new{number}"), UNUSED_SECONDS - 100)
    store.prune()
    assert len([path for path in tmp_path.iterdir() if path.name.startswith("new")]) == KEEP + 4


def test_use_makes_a_snapshot_young(tmp_path: Path) -> None:
    store = Snapshots(str(tmp_path / "store"))
    age(delivered(store, "mine"), 9 * UNUSED_SECONDS)
    store.copy("mine", str(tmp_path / "work"))
    assert time.time() - Path(store.path("mine")).stat().st_mtime < UNUSED_SECONDS


@pytest.mark.parametrize("rest", ["abc.7.tar.gz", "abc.7.partial"])
def test_the_rest_of_a_delivery_that_was_killed_goes_after_a_day(tmp_path: Path, rest: str) -> None:
    store = Snapshots(str(tmp_path))
    left = tmp_path / rest
    left.mkdir() if rest.endswith("partial") else left.write_text("half")
    store.prune()
    assert left.exists()
    age(left, UNUSED_SECONDS + 1)
    store.prune()
    assert not left.exists()

"""What a node hands back of a run: what is new, where it ran in a copy and where it ran in place."""

from __future__ import annotations

import base64
import io
import os
import tarfile
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.ask.pull import Source
from tests.node_program import ask


def pulled(home: Path, **source: Any) -> tuple[set[str], list[dict[str, Any]]]:
    """Names in the archive, and all messages but its pieces."""
    request = msgspec.structs.asdict(Source(**{"path": "", **source}))
    told = ask("pull", request, ("run.snapshot",), home=home)
    packed = b"".join(base64.b64decode(each["data"]) for each in told if each["is"] == "piece")
    names: set[str] = set()
    if packed:
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            names = set(tar.getnames())
    return names, [each for each in told if each["is"] != "piece"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's copy that wrote something, beside the snapshot it came from."""
    for place in (tmp_path / ".clusterctl/node/snapshots/abc", tmp_path / "work"):
        place.mkdir(parents=True)
        (place / "same").write_text("x")
        (place / "changed").write_text("x")
        (place / "tool").write_text("x")
    (tmp_path / "work/changed").write_text("y")
    (tmp_path / "work/tool").chmod(0o755)
    (tmp_path / "work/new").write_text("z")
    (tmp_path / "work/__pycache__").mkdir()
    (tmp_path / "work/__pycache__/x.pyc").write_text("z")
    return tmp_path / "work"


def test_of_a_copy_what_differs_from_its_code(run: Path) -> None:
    names, _ = pulled(run.parent, root=str(run), digest="abc")
    assert names == {"changed", "tool", "new"}


def test_of_a_run_in_a_subdirectory_what_it_wrote_anywhere(run: Path) -> None:
    (run / "exp").mkdir()
    (run / "exp/weights").write_text("z")
    (run.parent / "secret").write_text("not of the run")
    source = {"root": str(run), "digest": "abc", "subdirectory": "exp"}
    assert pulled(run.parent, **source)[0] == {"changed", "tool", "new", "exp/weights"}
    assert pulled(run.parent, **source, path="weights")[0] == {"exp/weights"}
    assert pulled(run.parent, **source, path="../new")[0] == {"new"}
    assert pulled(run.parent, **source, path="../../secret")[0] == set()


def test_in_place_what_changed_since_the_start(run: Path) -> None:
    began = time.time()
    for path in run.rglob("*"):  # as old as one can make it: when it was changed cannot be set
        os.utime(path, (0, 0))
    (run / ".git").mkdir()
    (run / ".git/index").write_text("x")
    names, _ = pulled(run.parent, root=str(run), in_place=True, age=time.time() - began + 3600)
    assert names == {"same", "changed", "tool", "new"}
    names, told = pulled(run.parent, root=str(run), in_place=True, age=-3600.0)
    assert (names, told[-1]["is"]) == (set(), "done")


def test_a_directory_that_is_the_controllers_own_sends_nothing(run: Path) -> None:
    (run / ".clusterctl-x1").touch()
    names, told = pulled(run.parent, root=str(run), in_place=True, age=60.0, beacon=".clusterctl-x1")
    assert (names, told) == (set(), [{"is": "here"}])
    _, told = pulled(run.parent, root=str(run), in_place=True, age=60.0, beacon=".clusterctl-other")
    assert told[0]["is"] == "listing"


def test_names_that_are_not_text_travel(run: Path) -> None:
    (run / os.fsdecode(b"\xff\xfe")).write_text("x")
    names, told = pulled(run.parent, root=str(run), digest="abc")
    assert os.fsdecode(b"\xff\xfe") in names
    assert all(name.encode() for name in told[0]["there"]), "text that a reader of JSON takes"


def test_code_that_is_gone_is_said(run: Path) -> None:
    names, (told,) = pulled(run.parent, root=str(run), digest="another")
    assert (names, told["is"]) == (set(), "refused")
    assert "name a PATH" in told["reason"]

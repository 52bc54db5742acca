"""Logs on their way to the disk: whether all of one is here is known without reading it again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from clusterctl.messages.relay import Fingerprint, LogPiece
from clusterctl.run.log_collector import LogCollector
from clusterctl.store.runs import RunDirectory
from tests.test_run_machine import plan

TEXT = b"one\ntwo\nthree\n"
LOG = "rank-0.log"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    return RunDirectory.create(plan(1))


def _no_block() -> None:
    return


def collect(directory: RunDirectory, *pieces: tuple[int, bytes], resume: bool = False) -> LogCollector:
    """What has come of a log that is TEXT, as its host says in the end."""
    logs = LogCollector(directory, lambda _: None)
    if resume:
        logs.resume(("h0",))
    for offset, data in pieces:
        logs.take("h0", LogPiece(name=LOG, offset=offset, data=data), 0.0)
    logs.complete("h0", {LOG: Fingerprint(size=len(TEXT), sha256=hashlib.sha256(TEXT).hexdigest())})
    return logs


def test_what_came_from_its_first_byte_is_not_read_again(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(RunDirectory, "log_fingerprint")
    assert (
        collect(directory, (0, TEXT[:4]), (2, TEXT[2:8]), (0, b"one"), (8, TEXT[8:])).incomplete(
            ("h0",), lambda: None
        )
        == ()
    )
    assert collect(directory, (0, b"ONE"), (3, TEXT[3:])).incomplete(("h0",), _no_block) == ("h0",)


def test_what_is_shorter_on_the_disk_is_not_whole(directory: RunDirectory) -> None:
    logs = collect(directory, (0, TEXT))
    (directory.host_logs("h0") / LOG).write_bytes(TEXT[:-1])
    assert logs.incomplete(("h0",), _no_block) == ("h0",)


@pytest.mark.parametrize(("before", "missing"), [(TEXT[:4], ()), (b"ONE\n", ("h0",))])
def test_what_was_here_before_counts_as_it_lies_there(
    directory: RunDirectory, before: bytes, missing: tuple[str, ...]
) -> None:
    directory.append_log("h0", LOG, 0, before)
    assert collect(directory, (4, TEXT[4:]), resume=True).incomplete(("h0",), _no_block) == missing

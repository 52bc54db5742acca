"""A run's directory as `why` reads it: long logs, colours, progress bars, records of older versions."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.advise.explain import is_telling
from clusterctl.advise.hang_verdict import HangSeen
from clusterctl.session.why import seems_to_hang, why
from clusterctl.settings import HOME_VARIABLE
from clusterctl.store.outcome import Cause, Outcome
from clusterctl.store.runs import RunDirectory
from tests.hangs.fixtures import verdict
from tests.test_run_machine import plan as small_plan

RUN = "20260101-120000-aaaa"
LOG = "logs/h1/rank-1.log"
USAGE = b"usage: t.py\nt.py: error: unrecognized arguments: --stepps 3\n"
Failed = Callable[..., RunDirectory]


@pytest.fixture
def failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Failed:
    """A run of which rank 1 on h1 failed."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))

    def make(log: bytes = b"", **changes: Any) -> RunDirectory:
        directory = RunDirectory.create(msgspec.structs.replace(small_plan(2), run=RUN))
        cause = Cause(
            kind="exit",
            message="ended with exit code 2",
            host="h1",
            node_rank=1,
            rank=1,
            exit_code=2,
            log=LOG,
        )
        cause = msgspec.structs.replace(cause, **changes)
        directory.write("outcome.json", Outcome(run=RUN, status="failed", exit_code=2, cause=cause))
        (directory.path / LOG).write_bytes(log)
        return directory

    return make


@pytest.mark.parametrize("brief", [True, False])
def test_the_end_of_the_log_explains_an_exit_code(failed: Failed, brief: bool) -> None:
    found = why(failed(b"step 1\n" + USAGE), brief=brief)
    assert found.sighting is not None
    assert (found.sighting.code, found.sighting.file, found.sighting.line) == ("args.wrong", LOG, 3)


def test_a_log_of_ten_gigabytes_is_read_in_pieces(failed: Failed) -> None:
    directory = failed(b"CUDA out of memory. Tried to allocate 2.00 GiB\n")
    with (directory.path / LOG).open("r+b") as stream:
        stream.seek(10 << 30)  # a hole: nothing of it lies on the disk
        stream.write(b"\n" + USAGE)
    tracemalloc.start()
    found = why(directory)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400 << 20
    assert found.sighting is not None
    assert (found.sighting.code, found.sighting.line) == ("args.wrong", None)
    assert [(each.code, each.line) for each in found.confirmations] == [("gpu.memory", 1)]
    assert found.unread == (f"10.7 GB in the middle of {LOG} were not looked at",)


def test_colours_and_progress_bars_hide_no_error(failed: Failed) -> None:
    bars = b"\r".join(b"  %d%%|##    | %d/100" % (each, each) for each in range(100))
    red = b"\r\x1b[31mt.py: error: unrecognized\x1b[0m arguments: --x\x1b[0m\r 100%|####|\n"
    found = why(failed(bars + red))
    assert found.sighting is not None
    assert found.sighting.code == "args.wrong"
    assert "\x1b" not in found.sighting.text


def test_a_log_without_an_end_a_name_or_a_line_is_no_fault(failed: Failed) -> None:
    directory = failed(b"\xff\x00\r\r\nno end")
    assert not why(directory).known
    (directory.path / LOG).unlink()
    found = why(directory)
    assert (found.known, found.means, found.quoted) == (False, "ended with exit code 2", ())


def test_what_hosts_told_is_read_also_where_another_version_wrote_it(failed: Failed) -> None:
    directory = failed(kind="signal", message="killed by SIGBUS", signal=7, exit_code=135)
    at = {"host": "h1", "node_rank": 1, "time": 1.0}
    shm = {"event": "warned", "what": "space", "subject": "/dev/shm", "text": "/dev/shm is 97 % full"}
    for event in (
        at | shm,
        at | {"event": "warned", "what": "tea", "subject": "", "text": ""},
        at | {"event": "warned"},
        at | {"event": "note"},
        at | {"event": "rank-exit", "rank": 1, "peak_memory": 2_000_000_000},
        at | {"event": "rank-exit", "rank": "x", "peak_memory": None},
    ):
        directory.append_event(event)
    found = why(directory)
    assert found.sighting is not None
    assert found.sighting.code == "end.bus"
    assert [each.means for each in found.confirmations] == ["/dev/shm is 97 % full"]


@pytest.mark.parametrize(("told", "suspects"), [(False, ["end.early"]), (True, [])])
def test_who_ended_with_0_after_the_order_to_stop_did_not_leave_early(
    failed: Failed, told: bool, suspects: list[str]
) -> None:
    gone = "RuntimeError: Connection closed by peer [10.0.0.1]:5"
    directory = failed(gone.encode(), kind="exception", message=gone)
    exited = {"event": "rank-exit", "host": "h0", "rank": 0, "code": 0, "peak_memory": 1, "told": told}
    directory.append_event(exited)
    assert [each.code for each in why(directory).suspects] == suspects


def test_the_end_of_other_logs_is_looked_at_where_the_cause_only_follows(failed: Failed) -> None:
    directory = failed(b"", kind="exception", message="RuntimeError: Connection closed by peer [10.0.0.1]:5")
    (directory.path / "logs/h0/rank-0.log").write_bytes(b"RuntimeError: CUDA error: invalid device ordinal\n")
    assert not why(directory, brief=True).suspects
    found = why(directory)
    assert [(each.code, each.host, each.rank) for each in found.suspects] == [("gpu.ordinal", "h0", 0)]


def test_a_run_without_an_end_says_how_it_stands(failed: Failed) -> None:
    directory = failed()
    (directory.path / "outcome.json").unlink()
    assert why(directory).status == "interrupted"
    directory.claim()
    assert why(directory).status == "running"


def test_a_run_that_hung_is_explained_by_its_last_verdict(failed: Failed) -> None:
    directory = failed(kind="hang", message="rank 2 on node2 never entered all_reduce 4", exit_code=None)
    for folder, case in (("hang", "stopped"), ("hang", "backward"), ("hang.attempt-2", "asleep")):
        (directory.path / folder).mkdir(exist_ok=True)
        number = len(list((directory.path / folder).iterdir())) + 1
        directory.write(f"{folder}/verdict-{number}.json", verdict(case))
    found = why(directory)
    assert found.hang == verdict("asleep")
    assert (found.known, found.hint) == (True, verdict("asleep").hint)
    assert found.means == "rank 2 on node2 never entered all_reduce 4"


def test_a_run_seems_to_hang_as_long_as_no_rank_has_printed_since(failed: Failed) -> None:
    directory = failed(b"step 1\n")
    assert seems_to_hang(directory, directory.plan()) is None
    (directory.path / "hang").mkdir()
    directory.write("hang/verdict-1.json", verdict("asleep"))
    os.utime(directory.path / LOG, (0, 1000.0))
    os.utime(directory.path / "hang/verdict-1.json", (0, 2000.0))
    assert seems_to_hang(directory, directory.plan()) == HangSeen(verdict("asleep"), 2000.0)
    os.utime(directory.path / LOG, (0, 3000.0))
    assert seems_to_hang(directory, directory.plan()) is None


@pytest.mark.parametrize("data", [b"", b"{}", b'{"kind": "stopped"}'])
def test_a_verdict_that_another_version_wrote_is_no_fault(failed: Failed, data: bytes) -> None:
    directory = failed(kind="hang", message="it hangs", exit_code=None)
    (directory.path / "hang").mkdir()
    (directory.path / "hang/verdict-1.json").write_bytes(data)
    found = why(directory)
    assert (found.hang, found.means) == (None, "it hangs")


def test_a_greeting_of_torch_is_no_last_word() -> None:
    warning = "[W1130 15:22:11.39 socket.cpp:207] [c10d] The "
    assert not is_telling("[Gloo] Rank 3 is connected to 3 peer ranks. Expected number of connected peers")
    assert not is_telling(warning + "hostname of the client socket cannot be retrieved. err=-3")
    assert is_telling(warning + "client socket has failed to connect to 10.0.0.1:29500")


def test_nor_is_one_of_deepspeed() -> None:
    at = "[2026-12-01 05:31:48,679] "
    assert not is_telling(at + "[INFO] [launch.py:152:main] WORLD INFO DICT: {'n1': [0], 'n2': [0]}")
    assert not is_telling(at + "[INFO] [launch.py:245:main] process 1397 spawned with command: ['python']")
    assert not is_telling(
        at + "[WARNING] [real_accelerator.py:213:get_accelerator] Setting accelerator to CPU."
    )
    assert is_telling(at + "[INFO] [launch.py:262:sigkill_handler] Main process received SIGTERM, exiting")
    assert is_telling(at + "[ERROR] [launch.py:280:main] ['python'] exits with return code = 1")

"""faulthandler's text and the flight recorder's JSON, as the types that a node sends."""

from __future__ import annotations

import faulthandler
import json
import tempfile
import threading
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterctl.messages.evidence import Recorder, ThreadStack
from clusterctl.node.observe import recorder_dump, stacks


def threads(text: str) -> list[ThreadStack]:
    return msgspec.convert(stacks.parse(text), list[ThreadStack])


def recorder(data: str | bytes) -> Recorder | None:
    return msgspec.convert(recorder_dump.parse(data), Recorder | None)


def test_this_very_process_is_read() -> None:
    waiting, stop = threading.Event(), threading.Event()

    def wait() -> None:
        waiting.set()
        stop.wait()

    other = threading.Thread(target=wait)
    other.start()
    waiting.wait()
    with tempfile.TemporaryFile("w+") as stream:
        faulthandler.dump_traceback(stream, all_threads=True)
        faulthandler.dump_traceback(stream, all_threads=True)
        stream.seek(0)
        found = threads(stream.read())
    stop.set()
    other.join()
    main, rest = found[0], found[1:]
    assert [thread.main for thread in found].index(True) == 0
    assert main.frames[0].function == "test_this_very_process_is_read"
    assert main.frames[0].file == __file__
    assert (
        sum(
            any(frame.function == "wait" and frame.file == __file__ for frame in each.frames) for each in rest
        )
        == 1
    )


WORKER_SERVER = """Current thread 0x00007f2b41f116c0 (most recent call first):
  <no Python frame>

Thread 0x00007f2b41f126c0 [pt_data_pin] (most recent call first):
  Garbage-collecting
  File "/usr/lib/python3.14/threading.py", line 359 in wait
  File "/usr/lib/python3.14/threading.py", line 1073 in _bootstrap

Thread 0x00007f2b6587ab80 (most recent call first):
  File "/site-packages/torch/distributed/distributed_c10d.py", line 4287 in all_gather
  File "/home/j\\xf6rg/train.py", line ??? in main
  File ???, line 3 in <module>
"""


def test_the_script_s_thread_comes_first_and_names_are_kept() -> None:
    main, pin = threads(WORKER_SERVER)
    assert main.main and not pin.main
    assert pin.name == "pt_data_pin" and len(pin.frames) == 2
    assert [(frame.file, frame.line, frame.function) for frame in main.frames] == [
        ("/site-packages/torch/distributed/distributed_c10d.py", 4287, "all_gather"),
        ("/home/jörg/train.py", 0, "main"),
        ("", 3, "<module>"),
    ]


def test_of_two_dumps_the_newer_counts() -> None:
    later = WORKER_SERVER.replace("4287", "9")
    assert threads(WORKER_SERVER + later)[0].frames[0].line == 9
    assert len(threads(WORKER_SERVER + later)) == 2


def entry(sequence: int, **other: Any) -> dict[str, Any]:
    return {
        "collective_seq_id": sequence,
        "p2p_seq_id": 0,
        "is_p2p": False,
        "pg_id": 0,
        "process_group": ["0", "default_pg"],
        "profiling_name": "gloo:all_reduce",
        "input_sizes": [[4, 5]],
        "output_sizes": [[4, 5]],
        "input_dtypes": ["Float"],
        "output_dtypes": ["Float"],
        "retired": True,
        "state": "scheduled",
        "time_created_ns": 1796045923101502405,
        "time_discovered_started_ns": 0,
        **other,
    }


def dump(*entries: dict[str, Any], **other: Any) -> str:
    return json.dumps({"entries": entries, **other})


def test_a_dump_of_gloo() -> None:
    found = recorder(
        dump(
            entry(1),
            entry(2, retired=False),
            pg_config={"": {"desc": "", "name": "", "ranks": "[]"}},
            pg_status={
                "0": {
                    "last_completed_collective": "1",
                    "last_enqueued_collective": "2",
                    "last_started_collective": "-1",
                }
            },
        )
    )
    assert found is not None
    (group,) = found.groups
    assert (group.name, group.description, group.ranks) == ("0", "default_pg", ())
    assert (group.last_enqueued, group.last_started, group.last_completed) == (2, -1, 1)
    first, second = found.collectives
    assert (first.done, second.done, second.started) == (True, False, False)
    assert (second.group, second.sequence, second.operation) == ("0", 2, "gloo:all_reduce")
    assert (second.input_sizes, second.dtypes) == (((4, 5),), ("Float",))
    assert second.created == pytest.approx(1796045923.1015)


def test_a_dump_of_nccl() -> None:
    found = recorder(
        dump(
            entry(7, state="completed", profiling_name="nccl:all_reduce"),
            entry(
                7,
                state="started",
                retired=False,
                is_p2p=True,
                p2p_seq_id=3,
                pg_id=4,
                process_group=["12", "pp"],
                profiling_name="nccl:send 0->8",
            ),
            pg_config={
                "0": {"name": "0", "desc": "default_pg", "ranks": "[0, 1]"},
                "12": {"name": "12", "ranks": [0, 8]},
            },
            pg_status={"0": {"last_enqueued_collective": 7}, "4": {"last_enqueued_collective": 3}},
        )
    )
    assert found is not None
    default, pipeline = found.groups
    assert (default.ranks, default.last_enqueued, default.last_completed) == ((0, 1), 7, -1)
    assert (pipeline.name, pipeline.description, pipeline.ranks) == ("12", "pp", (0, 8))
    send = found.collectives[1]
    assert (send.point_to_point, send.sequence, send.started, send.done) == (True, 3, True, False)


def test_the_recorders_of_gloo_and_nccl_become_one_in_the_order_of_time() -> None:
    gloo = dump(entry(1, time_created_ns=1_000), entry(2, time_created_ns=9_000))
    nccl = dump(*(entry(n, profiling_name="nccl:all_reduce", time_created_ns=n * 2_000) for n in (1, 2)))
    found = msgspec.convert(recorder_dump.parse(gloo, "unknown handler", nccl), Recorder)
    assert [(each.operation, each.sequence) for each in found.collectives] == [
        ("gloo:all_reduce", 1),
        ("nccl:all_reduce", 1),
        ("nccl:all_reduce", 2),
        ("gloo:all_reduce", 2),
    ]


def test_where_a_rank_hangs_is_kept_however_far_it_ran_ahead() -> None:
    many = [entry(number, retired=number < 500) for number in range(2000)]
    found = recorder(dump(*many))
    assert found is not None
    numbers = [each.sequence for each in found.collectives]
    assert numbers == sorted(set(numbers)) and len(numbers) < 100
    assert {499, 500, 501, 1999} <= set(numbers)


TEXTS = st.sampled_from(["", "0", "[0, 1]", "9" * 5000, "\ud800", "nccl:send 0->1", "completed"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
KEYS = (*entry(0), "last_enqueued_collective", "name", "ranks", "desc")
OBJECTS = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=8)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "entries": JSON | st.lists(OBJECTS | JSON, max_size=5),
            "pg_config": JSON | st.dictionaries(TEXTS, OBJECTS, max_size=3),
            "pg_status": JSON | st.dictionaries(TEXTS, OBJECTS, max_size=3),
        },
    )
)
def test_whatever_a_rank_tells_becomes_a_recorder(told: dict[str, Any]) -> None:
    found = recorder(json.dumps(told))
    assert found is not None
    assert msgspec.json.decode(msgspec.json.encode(found), type=Recorder) == found


@pytest.mark.parametrize("data", ["", "null", "[" * 100_000, b"\xff\xfe", '{"entries": 1e999}', "[]"])
def test_what_is_no_dump_is_nothing(data: str | bytes) -> None:
    found = recorder(data)
    assert found is None or not found.collectives


@given(st.lists(st.sampled_from(WORKER_SERVER.splitlines()) | st.text(max_size=30), max_size=30))
def test_any_lines_become_threads(lines: list[str]) -> None:
    for thread in threads("\n".join(lines)):
        assert thread.frames

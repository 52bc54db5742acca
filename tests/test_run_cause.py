"""Which failure is named: by weight, then by what its time can tell, then by kind."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterctl.messages.events import EngineExited, RankError, RankExited
from clusterctl.run.cause import Failure, Weight, first, from_engine_exit, from_rank_exit
from clusterctl.run.symptoms import blames_a_peer
from clusterctl.settings import RUN
from clusterctl.store.outcome import Cause

OF_A_CHILD = (
    "Traceback (most recent call last):\n"
    '  File "/home/ann/data.py", line 9, in __getitem__\n'
    '    raise KeyError("input_ids")\n'
    "KeyError: 'input_ids'\n"
)


def rank_exit(**changes: Any) -> RankExited:
    fields = {"rank": 3, "code": 1, "signal": None, "told": False, "peak_memory": 0}
    return RankExited(**{**fields, "time": 0.0, "started": 0.0, "ended": 0.0, **changes})


def failure(at: float = 0.0, **changes: Any) -> Failure:
    return from_rank_exit(rank_exit(**changes), host="b", node_rank=1, at=at, log="logs/b/rank-3.log")


def error(kind: str, message: str, before: str = "") -> RankError:
    header = 'Traceback (most recent call last):\n  File "t.py", line 1, in <module>\n    raise it\n'
    return RankError(type=kind, message=message, traceback=f"{before}{header}{kind}: {message}\n", time=0.0)


def during(earlier: RankError, later: RankError) -> RankError:
    text = f"{earlier.traceback}\nDuring handling of the above exception, another exception occurred:\n\n"
    return error(later.type, later.message, before=text)


def named(*failures: Failure) -> Failure:
    found = {
        id(first(order, clock=RUN.clock_error, late=RUN.noticed_late))
        for order in itertools.permutations(failures)
    }
    assert len(found) == 1, "the order of arrival decided"
    return next(each for each in failures if id(each) in found)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"code": 7}, "exit", "ended with exit code 7"),
        ({"code": 139, "signal": 11}, "signal", "killed by SIGSEGV"),
        (
            {"code": 137, "signal": 9, "oom": "over the limit"},
            "oom",
            "out of memory, killed by the kernel: over the limit",
        ),
        ({"error": error("ValueError", "boom\nmore")}, "exception", "ValueError: boom"),
        (
            {"error": error("spawn.ProcessRaisedException", f"\n\n-- Process 1 {OF_A_CHILD}")},
            "exception",
            "spawn.ProcessRaisedException: KeyError: 'input_ids'",
        ),
        (
            {
                "error": error(
                    "KeyError", f"Caught KeyError in DataLoader worker process 0.\nOriginal {OF_A_CHILD}"
                )
            },
            "exception",
            "KeyError: Caught KeyError in DataLoader worker process 0: KeyError: 'input_ids'",
        ),
        (
            {"error": error("torch.OutOfMemoryError", "CUDA out of memory.")},
            "oom",
            "torch.OutOfMemoryError: CUDA out of memory.",
        ),
    ],
)
def test_kind_and_sentence(changes: dict[str, Any], kind: str, message: str) -> None:
    cause = failure(**changes).cause
    assert (cause.kind, cause.message) == (kind, message)
    assert (cause.host, cause.rank, cause.log) == ("b", 3, "logs/b/rank-3.log")


OWN = error("KeyError", "'x'")
GLOO = error(
    "RuntimeError", "[gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.2]:4711. This is ..."
)


@pytest.mark.parametrize("signal", [15, 9, 11, 6])
def test_what_a_rank_raised_counts_not_the_signal_that_ended_its_exit(signal: int) -> None:
    found = failure(code=128 + signal, signal=signal, oom="the host ran out of memory", error=OWN)
    assert (found.cause.kind, found.cause.message, found.weight) == ("exception", "KeyError: 'x'", Weight.OWN)
    assert (found.cause.exit_code, found.cause.signal) == (1, None)
    assert failure(code=128 + signal, signal=signal, error=GLOO).weight is Weight.PEER


PEER_ERRORS = [
    ("torch.distributed.DistBackendError", "[1] is setting up NCCL communicator, got error: Broken pipe"),
    ("torch.distributed.DistBackendError", "NCCL error in: x, remote process exited or a network error"),
    ("torch.distributed.DistBackendError", "NCCL communicator was aborted on rank 1."),
    ("torch.distributed.DistStoreError", "wait timeout after 300000ms, keys: /1"),
    ("torch.distributed.DistStoreError", "Timed out after 301 seconds waiting for clients."),
    (
        "torch.distributed.DistNetworkError",
        "Failed to recv, got 0 bytes. Connection was likely closed. Did the remote server shutdown or crash?",
    ),
    (
        "torch.distributed.DistNetworkError",
        "The client socket has timed out after 60000ms while trying to connect to (10.0.0.1, 29500).",
    ),
    ("RuntimeError", "[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv"),
    ("RuntimeError", "Application timeout caused pair closure"),
    ("RuntimeError", "Gloo connectFullMesh failed with Connection refused"),
    ("RuntimeError", "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=4)"),
    ("ConnectionResetError", "[Errno 104] Connection reset by peer"),
    ("BrokenPipeError", "[Errno 32] Broken pipe"),
    ("EOFError", ""),
]  # fmt: skip
OWN_ERRORS = [
    ("KeyError", "'lr'"),
    (
        "torch.distributed.DistNetworkError",
        "The server socket has failed to listen on any address. EADDRINUSE",
    ),
    ("torch.distributed.DistBackendError", "NCCL error in: ..., unhandled cuda error"),
    ("torch.distributed.DistBackendError", "NCCL error in: ..., invalid usage. Duplicate GPU detected"),
    ("subprocess.TimeoutExpired", "Command 'sleep' timed out after 5 seconds"),
    ("requests.exceptions.ConnectionError", "HTTPSConnectionPool(host='hub'): Connection refused"),
    ("EOFError", "EOF when reading a line"),
    ("TimeoutError", "no answer from the tokenizer"),
    ("torch.OutOfMemoryError", "CUDA out of memory."),
]


@pytest.mark.parametrize(("kind", "message"), PEER_ERRORS)
def test_texts_that_only_say_a_peer_is_gone(kind: str, message: str) -> None:
    assert blames_a_peer(error(kind, message)) is True


@pytest.mark.parametrize(("kind", "message"), OWN_ERRORS)
def test_texts_that_stand_for_themselves(kind: str, message: str) -> None:
    assert blames_a_peer(error(kind, message)) is False


def test_what_fails_while_a_failure_is_handled_is_doubtful_whichever_came_first() -> None:
    assert blames_a_peer(during(OWN, GLOO)) is None
    assert blames_a_peer(during(GLOO, OWN)) is None
    assert blames_a_peer(during(GLOO, GLOO)) is True
    cleanup, victim, killed = (
        failure(5.0, error=during(OWN, GLOO)),
        failure(1.0, error=GLOO),
        failure(9.0, code=7),
    )
    assert named(cleanup, victim) is cleanup
    assert named(cleanup, victim, killed) is killed


def test_an_error_that_blames_a_peer_never_wins_however_early() -> None:
    peer = failure(10.0, error=GLOO)
    for later in (
        failure(600.0, code=137, signal=9),
        failure(600.0, code=3),
        failure(600.0, error=OWN),
        Failure(cause=Cause(kind="lost", message="lost", host="c"), at=600.0, seen_late=False),
        failure(600.0, code=134, signal=6),
    ):
        assert named(peer, later) is later
    assert named(peer, failure(5.0, code=143, signal=15, told=True)) is peer


def test_among_what_was_raised_time_decides() -> None:
    early, late = failure(10.0, error=OWN), failure(10.05, error=OWN)
    assert named(late, early) is early


def test_a_kill_noticed_late_beats_what_it_made_others_raise() -> None:
    killed = failure(12.0, code=137, signal=9)
    assert named(failure(10.0, error=OWN), failure(10.1, error=OWN), killed) is killed


def test_a_kill_long_after_an_exception_is_its_consequence() -> None:
    raised = failure(10.0, error=OWN)
    assert named(raised, failure(40.0, code=137, signal=9)) is raised
    assert named(raised, failure(10.5, code=137, signal=9, told=True)) is raised


def test_what_was_raised_after_an_exit_did_not_cause_it() -> None:
    left = failure(10.0, code=7)
    assert named(left, failure(11.0, error=OWN)) is left
    raised = failure(10.0, error=OWN)
    assert named(raised, failure(11.0, code=1)) is raised


def test_a_lost_host_is_as_old_as_its_last_word() -> None:
    lost = Failure(cause=Cause(kind="lost", message="lost", host="c"), at=10.0, seen_late=False)
    assert named(lost, failure(11.0, error=OWN)) is lost
    before = failure(8.0, error=OWN)
    assert named(lost, before) is before


def test_a_watchdogs_abort_does_not_outrank_an_exception() -> None:
    victim, culprit = failure(1.0, code=134, signal=6), failure(9.0, error=OWN)
    assert named(victim, culprit) is culprit
    assert named(victim, failure(0.9, error=GLOO)) is victim


def test_an_engine_that_the_kernel_killed_for_its_memory_is_told_so() -> None:
    event = EngineExited(time=0.0, code=137, told=False, oom="over the limit")
    engine = from_engine_exit(event, host="b", node_rank=1, at=10.0, log="logs/b/agent.log")
    assert (engine.cause.kind, engine.cause.message) == ("oom", "the engine: over the limit")
    assert (engine.cause.exit_code, engine.weight) == (137, Weight.OWN)


def test_an_engine_that_its_own_agent_had_to_kill_was_killed_by_nobody() -> None:
    event = EngineExited(time=0.0, code=137, told=True, swept=True)
    engine = from_engine_exit(event, host="b", node_rank=1, at=10.0, log="logs/b/agent.log")
    assert (engine.cause.kind, engine.cause.exit_code, engine.weight) == ("exit", 1, Weight.DOUBTFUL)


def test_an_engine_that_was_sent_a_signal_ends_with_a_code_of_its_own() -> None:
    event = EngineExited(time=0.0, code=1, told=True, sent=15)
    engine = from_engine_exit(event, host="b", node_rank=1, at=10.0, log="logs/b/agent.log")
    assert (engine.cause.kind, engine.cause.message) == ("signal", "the engine was sent SIGTERM")
    assert (engine.cause.exit_code, engine.cause.signal, engine.weight) == (1, 15, Weight.OWN)


def test_an_engine_that_was_killed_is_named_before_ranks_that_were_told() -> None:
    event = EngineExited(time=0.0, code=137, told=False)
    engine = from_engine_exit(event, host="b", node_rank=1, at=10.0, log="logs/b/agent.log")
    assert (engine.cause.kind, engine.cause.message) == ("signal", "the engine was killed by SIGKILL")
    assert named(failure(9.9, code=137, signal=9, told=True), failure(9.9, error=GLOO), engine) is engine


CULPRITS = [
    {"error": OWN, "code": 1},
    {"error": OWN, "code": 143, "signal": 15},
    {"error": OWN, "code": 137, "signal": 9, "told": False},
    {"code": 137, "signal": 9},
    {"code": 139, "signal": 11},
    {"code": 7},
]
VICTIMS = [
    {"error": GLOO, "code": 1},
    {"error": GLOO, "code": 143, "signal": 15},
    {"code": 143, "signal": 15, "told": True},
    {"code": 137, "signal": 9, "told": True},
    {"code": 134, "signal": 6},
    {"error": error("RuntimeError", "stopped while saving"), "told": True},
]


@given(
    culprit=st.sampled_from(CULPRITS),
    victims=st.lists(st.tuples(st.sampled_from(VICTIMS), st.floats(0, 3)), min_size=1, max_size=31),
    offsets=st.lists(st.floats(-0.1, 0.1), min_size=32, max_size=32),
    slow=st.floats(0, 4),
    seed=st.integers(0, 2**32),
)
def test_the_rank_that_failed_is_named_in_any_order_with_any_clocks(
    culprit: dict[str, Any],
    victims: list[tuple[dict[str, Any], float]],
    offsets: list[float],
    slow: float,
    seed: int,
) -> None:
    late = 0.0 if "error" in culprit else slow
    events = [(culprit, late), *victims]
    failures = [
        from_rank_exit(
            rank_exit(rank=rank, **changes),
            host=f"h{rank}",
            node_rank=rank,
            at=100 + after + offsets[rank],
            log="",
        )
        for rank, (changes, after) in enumerate(events)
    ]
    random.Random(seed).shuffle(failures)
    assert first(failures, clock=RUN.clock_error, late=RUN.noticed_late).cause.rank == 0


@given(
    delays=st.lists(st.floats(0.25, 3), min_size=1, max_size=31),
    offsets=st.lists(st.floats(-0.1, 0.1), min_size=32, max_size=32),
    seed=st.integers(0, 2**32),
)
def test_of_many_that_raised_the_same_the_first_by_corrected_time_is_named(
    delays: list[float], offsets: list[float], seed: int
) -> None:
    failures = [
        from_rank_exit(
            rank_exit(rank=rank, error=OWN), host="h", node_rank=0, at=after + offsets[rank], log=""
        )
        for rank, after in enumerate([0.0, *delays])
    ]
    random.Random(seed).shuffle(failures)
    assert first(failures, clock=RUN.clock_error, late=RUN.noticed_late).cause.rank == 0

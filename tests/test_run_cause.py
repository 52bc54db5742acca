"""Which failure is the first: kind beats time within the window, time beats kind outside it."""

from __future__ import annotations

from typing import Any

import pytest

from clusterctl.messages.events import RankError, RankExited
from clusterctl.run.cause import Failure, first, from_rank_exit
from clusterctl.store.outcome import Cause


def rank_exit(**changes: Any) -> RankExited:
    fields = {"rank": 3, "code": 1, "signal": None, "told": False, "peak_memory": 0}
    return RankExited(**{**fields, "time": 0.0, "started": 0.0, "ended": 0.0, **changes})


def failure(at: float = 0.0, **changes: Any) -> Failure:
    return from_rank_exit(rank_exit(**changes), host="b", node_rank=1, at=at, log="logs/b/rank-3.log")


def error(kind: str, message: str) -> RankError:
    return RankError(type=kind, message=message, traceback=f"Traceback\n{kind}: {message}", time=0.0)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"code": 7}, "exit", "ended with exit code 7"),
        ({"code": 139, "signal": 11}, "signal", "killed by SIGSEGV"),
        ({"code": 137, "signal": 9, "oom": "over the limit"}, "oom", "over the limit"),
        ({"error": error("ValueError", "boom\nmore")}, "exception", "ValueError: boom"),
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


PEER = {"error": error("torch.distributed.DistBackendError", "Connection closed by peer [10.0.0.2]:4711")}


def test_a_victim_that_is_older_by_the_clock_does_not_win() -> None:
    victim, killed = failure(at=10.000, **PEER), failure(at=10.002, code=137, signal=9)
    assert first([victim, killed], window=5.0) == killed


def test_an_exception_of_its_own_beats_a_peer_error_and_an_exit() -> None:
    own = failure(at=12.0, error=error("ValueError", "boom"))
    assert first([failure(at=10.0, **PEER), failure(at=11.0, code=3), own], window=5.0) == own


def test_outside_the_window_time_decides() -> None:
    early, late = failure(at=10.0, **PEER), failure(at=16.0, code=137, signal=9)
    assert first([late, early], window=5.0) == early


def test_a_lost_host_beats_the_peers_that_noticed() -> None:
    lost = Failure(cause=Cause(kind="lost", message="lost", host="c"), at=14.0)
    assert first([failure(at=10.0, **PEER), lost], window=5.0) == lost


def test_a_watchdogs_abort_does_not_outrank_an_exception() -> None:
    victim, culprit = failure(1.0, code=134, signal=6), failure(1.1, error=error("ValueError", "boom"))
    assert first([victim, culprit], 5.0) is culprit
    peer = failure(0.9, error=error("RuntimeError", "Connection closed by peer"))
    assert first([victim, peer], 5.0) is victim

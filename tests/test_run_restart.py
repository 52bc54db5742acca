"""Whether a run is tried again: values in, a decision out."""

from __future__ import annotations

from typing import Any

import pytest

from clusterctl.run.restart import Again, Over, decide, finished, is_port_taken, restarts
from clusterctl.store.outcome import Attempt, Cause, Outcome


def attempts(*changes: dict[str, Any]) -> list[Attempt]:
    """Each failed at another step, unless it is told otherwise."""
    return [
        Attempt(**{"attempt": number, "status": "failed", "exit_code": 1, "last_step": number, **change})
        for number, change in enumerate(changes, 1)
    ]


@pytest.mark.parametrize("status", ["failed", "lost", "error", "hung"])
def test_what_failed_is_tried_again_as_often_as_asked(status: str) -> None:
    once = attempts({"status": status})
    assert decide(once, max_restarts=0) == Over()
    assert decide(once, max_restarts=1) == Again(2, "restart 1 of 1")
    assert decide(attempts({}, {"status": status}), max_restarts=1) == Over("the only restart is used up")
    assert decide(attempts({}, {}, {"status": status}), max_restarts=2) == Over("all 2 restarts are used up")


@pytest.mark.parametrize("status", ["succeeded", "stopped", "timeout", "refused"])
def test_what_somebody_wanted_or_will_not_change_is_not(status: str) -> None:
    assert decide(attempts({"status": status}), max_restarts=9) == Over()


def test_three_attempts_that_end_at_one_step_are_a_loop() -> None:
    stuck = attempts({"last_step": 40}, {"last_step": 40}, {"last_step": 40})
    assert decide(stuck[:2], max_restarts=9) == Again(3, "restart 2 of 9")
    assert decide(stuck, max_restarts=9) == Over("3 attempts in a row came to step 40 and no further")
    further = attempts({"last_step": 40}, {"last_step": 40}, {"last_step": 41})
    assert isinstance(decide(further, max_restarts=9), Again)
    newer = attempts({"last_step": 40}, {"last_step": 40}, {"last_step": 40, "resumed": "step-30"})
    assert isinstance(decide(newer, max_restarts=9), Again)


def test_without_steps_only_the_same_end_by_itself_is_a_loop() -> None:
    usage: dict[str, Any] = {"last_step": None, "cause": Cause(kind="exit", message="2", exit_code=2, rank=0)}
    why = "3 attempts in a row ended in the same way, without a step in their logs"
    assert decide(attempts(usage, usage, usage), max_restarts=9) == Over(why)
    other = {**usage, "cause": Cause(kind="exit", message="3", exit_code=3, rank=0)}
    assert isinstance(decide(attempts(usage, other, usage), max_restarts=9), Again)
    killed: dict[str, Any] = {"last_step": None, "cause": Cause(kind="signal", message="KILL", signal=9)}
    assert isinstance(decide(attempts(killed, killed, killed), max_restarts=9), Again)


def test_a_port_that_was_taken_is_no_restart_and_has_a_bound_of_its_own() -> None:
    taken = {"free": True, "last_step": None}
    why = "somebody had taken the port of the rendezvous"
    assert decide(attempts(taken), max_restarts=0) == Again(2, why)
    assert decide(attempts(*[taken] * 4), max_restarts=0) == Again(5, why)
    assert isinstance(decide(attempts(*[taken] * 5), max_restarts=9), Over)
    assert decide(attempts(taken, {}), max_restarts=1) == Again(3, "restart 1 of 1")
    assert restarts(attempts(taken, {}, {})) == 1


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (
            "The server socket has failed to listen on any local address. port: 29500, useIpv6: false,"
            " code: -98, name: EADDRINUSE, message: address already in use",
            True,
        ),
        ("OSError: [Errno 98] Address already in use: ('0.0.0.0', 6006)", False),
        ("connected to 10.0.0.1:29500", False),
    ],
)
def test_the_port_of_the_rendezvous_is_told_from_others(text: str, taken: bool) -> None:
    assert is_port_taken(text, 29500) is taken


def test_a_host_that_was_given_up_is_not_forgotten_in_the_end() -> None:
    ended = attempts(
        {"status": "lost", "left_behind": {"a": 0, "b": None}}, {"left_behind": {"a": 0, "c": 0}}
    )
    last = Outcome(run="r", status="succeeded", exit_code=0, left_behind={"a": 0, "c": 0})
    outcome = finished(last, ended)
    assert outcome.left_behind == {"a": 0, "b": None, "c": 0}
    assert (outcome.restarts, outcome.attempts) == (1, tuple(ended))

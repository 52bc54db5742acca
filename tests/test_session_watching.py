"""What whoever looks on is told of a run's end, by its events alone."""

from __future__ import annotations

from clusterctl.session.watching import Ends
from tests.test_run_machine import plan


def test_hosts_that_have_not_ended_are_named_once_a_run_stops() -> None:
    ends = Ends(plan(3))
    assert ends.awaited == ""
    ends.take({"event": "ended", "host": "h0"})
    assert ends.awaited == ""  # the others may train on for hours
    ends.take({"event": "stopping", "host": "h1"})
    assert ends.awaited == "waiting for h[1-2] to end"
    ends.take({"event": "rank-exit", "host": "h1", "rank": 1})
    assert ends.awaited == "waiting for h2 to end"  # the engine of h1 waits for that, too
    ends.take({"event": "rank-exit", "host": "h2", "rank": 2})
    assert ends.awaited == "waiting for h[1-2] to end"
    ends.take({"event": "ended", "host": "h1"})
    ends.take({"event": "ended", "host": "h2"})
    assert ends.awaited == "waiting for the last of the logs"


def test_the_next_attempt_begins_anew() -> None:
    ends = Ends(plan(2))
    ends.take({"event": "stopping", "host": "h1"})
    ends.take({"event": "attempt", "attempt": 2, "hosts": ["h0", "h7"]})
    assert ends.awaited == ""
    ends.take({"event": "rank-exit", "host": "h0", "rank": 0})
    ends.take({"event": "stopping", "host": "h0"})
    assert ends.awaited == "waiting for h7 to end"

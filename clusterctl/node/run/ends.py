"""Whose doing the end of a rank was. Pure."""

from __future__ import annotations

import signal

ENGINE_GRACE = 10.0  # engines that were signalled themselves leave 30 s between TERM and KILL


def was_told(end, error, failed_before, stopped_at, killed_at):
    """Whether what failed this rank came after it was asked to end, by us or by its engine.

    What it raised before is its own, whatever signal ended it then and however long that took. ``end`` is
    what the waiter reports, ``error`` what the script raised, ``failed_before`` whether another rank of this
    node had failed; the times are those of the agent's own TERM and KILL.
    """
    asked = min((each for each in (stopped_at, end["asked"]) if each is not None), default=None)
    if error is not None:
        return asked is not None and error["time"] > asked
    if end["signal"] == signal.SIGKILL:
        by_us = killed_at is not None and end["ended"] >= killed_at
        by_engine = asked is not None and end["ended"] > asked + ENGINE_GRACE
        return by_us or by_engine
    # An engine signals the rank before its waiter: the waiter may report before it was asked itself.
    if end["signal"] == signal.SIGTERM and failed_before:
        return True
    return asked is not None and end["ended"] > asked

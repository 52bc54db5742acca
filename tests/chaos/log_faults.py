"""Ranks that print more than their logs may hold."""

from __future__ import annotations

import signal
import time

from tests.chaos.rounds import SUCCESS, Broken, Expected, Round, steps

_SIZE = 30_000
_LIMIT = ("--log-limit", "1MB")


def log_overflows(r: Round) -> Expected:
    """To its end, with a link that goes for a while, or until a rank is killed."""
    way, rank = r.rng.choice(("to the end", "link", "killed")), r.any_rank()
    host, r.real = r.host_of(rank), False  # what torch prints besides would shift each byte
    r.note(f"every rank prints more than 1 MB, {way}")
    r.launch(steps(5), size=_SIZE, options=_LIMIT)
    r.ready()
    if way == "link":
        host.link(False)
        time.sleep(r.rng.uniform(0.5, 3))
        host.link(True)
    if way == "killed":
        r.wait_until(lambda: host.see(f"/tmp/printed-{rank}").stat().st_size > 2 * 10**6, "2 MB are printed")
        r.send("rank", host, signal.SIGKILL, rank)
        return Expected((137,), ("signal",), host.name, rank)
    r.returns()
    cut = r.outcome().cut_logs
    if len(cut) != len(r.ranks()):
        raise Broken(f"cut are only {sorted(cut)}")
    return SUCCESS

"""A controller that is away for longer than a lease, and one whose time of day is set."""

from __future__ import annotations

import signal
import time

from tests.chaos.processes import find
from tests.chaos.rounds import ENDLESS, SUCCESS, Broken, Expected, Round, steps

_LEASE = 6.0
_HOURS = 3600.0


def away_for_longer_than_the_lease(r: Round) -> Expected:
    """Of a detached run: killed, or it stands still, until hosts end their ranks. Then one attaches."""
    number = r.rng.choice((signal.SIGKILL, signal.SIGSTOP))
    r.variables["CHAOS_LEASE"] = f"{_LEASE:g}"
    r.launch_detached(steps(600))
    r.ready()
    r.note(f"{signal.Signals(number).name} to the controller, the lease is {_LEASE:g} s")
    r.the_controller().send(number)
    r.wait_until(lambda: not any(find(host.processes(), "rank") for host in r.world.hosts), "no rank lives")
    r.attach()
    return Expected((123,), ("operator",))


def clock_is_set(r: Round) -> Expected:
    """The controller's time of day, by hours, again and again, for all that runs there."""
    clock = r.world.folder / "clock"
    clock.write_text("0")
    r.variables["CHAOS_CLOCK"] = str(clock)
    rank = r.any_rank() if r.rng.random() < 0.6 else None
    attached = r.rng.random() < 0.5
    begin = r.launch if attached else r.launch_detached
    begin(steps(12) if rank is None else ENDLESS, options=["--hang-timeout", "30s"])
    r.ready()
    for _ in range(3):
        wrong = r.rng.choice((-1, 1)) * r.rng.uniform(0.1, 30) * _HOURS
        r.note(f"{wrong / _HOURS:+.1f} h")
        aside = clock.with_name("clock.new")
        aside.write_text(str(wrong))
        aside.rename(clock)
        time.sleep(r.rng.uniform(0.5, 2))
        if code := r.end_of(r.begin("status", r.directory.name)):
            raise Broken(f"status ended with {code}: {r.said[-1]}")
        if "lost" in r.said[-1] or "silent" in r.said[-1]:
            raise Broken(f"status: {r.said[-1]}")
    if rank is not None:
        r.send("rank", r.host_of(rank), signal.SIGKILL, rank)
    if not attached:
        r.attach()
    return SUCCESS if rank is None else Expected((137,), ("signal",), r.host_of(rank).name, rank)

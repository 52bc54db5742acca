"""Faults of runs without a terminal: the controller is killed, told to go or stopped; then one attaches."""

from __future__ import annotations

import signal
import time

from tests.chaos.rounds import ENDLESS, SUCCESS, Broken, Expected, Round, steps

_SECONDS = 10.0


def _controller_gets(r: Round, number: int) -> None:
    found = r.the_controller()
    r.note(f"{signal.Signals(number).name} to the controller")
    found.send(number)
    if number in (signal.SIGKILL, signal.SIGTERM):
        r.wait_until(lambda: not r.controllers(), "the controller has ended", 60)


def detached_alone(r: Round) -> Expected:
    """The controller dies, or goes; half of the time a rank fails while there is none."""
    r.launch_detached(steps(_SECONDS))
    r.ready()
    _controller_gets(r, r.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
    rank = r.any_rank() if r.rng.random() < 0.5 else None
    if rank is not None:
        r.send("rank", r.host_of(rank), signal.SIGKILL, rank)
    time.sleep(r.rng.uniform(0, 4))
    r.attach()
    return SUCCESS if rank is None else Expected((137,), ("signal",), r.host_of(rank).name, rank)


def detached_over(r: Round) -> Expected:
    """All is over before somebody attaches."""
    r.launch_detached(steps(3))
    r.ready()
    _controller_gets(r, signal.SIGKILL)
    time.sleep(6)
    r.attach()
    return SUCCESS


def detached_stopped(r: Round) -> Expected:
    """Its controller stands still: attach wakes it."""
    r.launch_detached(steps(_SECONDS))
    r.ready()
    _controller_gets(r, signal.SIGSTOP)
    time.sleep(r.rng.uniform(0, 4))
    r.attach()
    return SUCCESS


def detached_rank_killed(r: Round) -> Expected:
    """The controller lives; nobody looks on, or somebody does."""
    rank, options = r.any_rank(), r.rng.choice((["--max-restarts", "1"], []))
    early = r.rng.random() < 0.5
    r.launch_detached(steps(5), options=options)
    r.ready()
    if early:
        r.attach()
    r.send("rank", r.host_of(rank), signal.SIGKILL, rank)
    if not early:
        time.sleep(r.rng.uniform(0, 4))
        r.attach()
    ended = Expected((137,), ("signal",), r.host_of(rank).name, rank)
    return Expected((0,), earlier=(ended,)) if options else ended


def two_attach(r: Round) -> Expected:
    """At once, to a run without a controller: one of them begins one."""
    r.launch_detached(steps(_SECONDS))
    r.ready()
    _controller_gets(r, signal.SIGKILL)
    other = r.begin("attach", r.directory.name)
    r.attach()
    code = r.end_of(other)
    if code != 0:
        raise Broken(f"the other attach ended with {code}: {r.said[-1][-600:]}")
    return SUCCESS


def detached_stop(r: Round) -> Expected:
    """`stop` of a run whose controller is dead, while somebody watches without supervising."""
    r.launch_detached(steps(60))
    r.ready()
    _controller_gets(r, signal.SIGKILL)
    code = r.stop(*r.rng.choice(((), ("--now",))))
    if code:
        raise Broken(f"stop ended with {code}: {r.said[-1]}")
    r.attach()
    return Expected((123,), ("operator",))


def detached_in_second_attempt(r: Round) -> Expected:
    """Its controller dies in an attempt that is not the first."""
    rank = r.any_rank()
    r.launch_detached(steps(_SECONDS), options=["--max-restarts", "1"])
    r.ready()
    r.send("rank", r.host_of(rank), signal.SIGKILL, rank)
    r.ready(attempt=2)
    _controller_gets(r, signal.SIGKILL)
    time.sleep(r.rng.uniform(0, 4))
    r.attach()
    return Expected((0,), earlier=(Expected((137,), ("signal",), r.host_of(rank).name, rank),))


def detached_between(r: Round) -> Expected:
    """Its controller dies at any moment from the failure of the first attempt on, or when the second is
    planned and no host knows of it yet."""
    rank, planned = r.any_rank(), r.rng.random() < 0.5
    r.launch_detached(steps(_SECONDS), options=["--max-restarts", "1"])
    r.ready()
    r.send("rank", r.host_of(rank), signal.SIGKILL, rank)
    if planned:
        r.note("as soon as there is a second plan")
        r.wait_until((r.directory / "plan.attempt-2.json").exists, "a second plan", often=0.001)
    else:
        time.sleep(r.rng.uniform(0, 12))
    _controller_gets(r, signal.SIGKILL)
    time.sleep(r.rng.uniform(0, 2))
    r.attach()
    return Expected((0, 125, 137), ("internal", "signal"), earlier=None)


def detached_hang(r: Round) -> Expected:
    """With gloo. Nobody looks on, and the controller may stand still for a while."""
    rank, r.real = r.any_rank(), True
    r.launch_detached(ENDLESS, options=["--hang-timeout", "4s"])
    r.ready()
    r.send("rank", r.host_of(rank), signal.SIGSTOP, rank)
    if r.rng.random() < 0.5:
        _controller_gets(r, signal.SIGSTOP)
        time.sleep(r.rng.uniform(0, 8))
        _controller_gets(r, signal.SIGCONT)
    r.attach()
    return Expected((122,), ("hang",), r.host_of(rank).name, rank)

"""Faults that let ranks wait for ever, and silences that are none. All with torch and gloo."""

from __future__ import annotations

import signal
import time

from tests.chaos.rounds import SUCCESS, Expected, Round, steps

_ALL = 400
"""Steps that a rank makes which is stopped in none of them."""


def _limit(r: Round) -> list[str]:
    return ["--hang-timeout", f"{r.rng.choice((4, 6, 8))}s"]


def _named(r: Round, rank: int) -> Expected:
    return Expected((122,), ("hang",), r.host_of(rank).name, rank)


def hang_stopped(r: Round) -> Expected:
    rank, r.real = r.any_rank(), True
    r.launch(options=_limit(r))
    r.ready()
    r.send("rank", r.host_of(rank), signal.SIGSTOP, rank)
    return _named(r, rank)


def hang_sleeps(r: Round) -> Expected:
    rank, r.real = r.any_rank(), True
    r.note(f"rank {rank} sleeps")
    r.launch(who=rank, what="sleep", at=r.rng.randrange(1, 60), options=_limit(r))
    return _named(r, rank)


def hang_other_collective(r: Round) -> Expected:
    rank, r.real = r.any_rank(), True
    r.note(f"rank {rank} is in another collective")
    r.launch(who=rank, what="broadcast", at=r.rng.randrange(1, 60), options=_limit(r))
    return _named(r, rank)


def hang_reported(r: Round) -> Expected:
    """Said and not stopped, until somebody does."""
    rank, r.real = r.any_rank(), True
    r.note(f"rank {rank} sleeps, --on-hang report")
    r.launch(who=rank, what="sleep", at=r.rng.randrange(1, 60), options=[*_limit(r), "--on-hang", "report"])
    sentence = f"rank {rank} on {r.host_of(rank).name} never entered"
    r.wait_until(lambda: sentence in r.screen.read_text(errors="replace"), "the hang is reported")
    time.sleep(r.rng.uniform(0, 3))
    r.interrupt(signal.SIGINT)
    return Expected((123,), ("operator",))


def hang_restarts(r: Round) -> Expected:
    rank, r.real = r.any_rank(), True
    r.launch(_ALL, options=[*_limit(r), "--max-restarts", "1"])
    r.ready()
    r.send("rank", r.host_of(rank), signal.SIGSTOP, rank)
    return Expected((0,), earlier=(_named(r, rank),))


def works_in_silence(r: Round) -> Expected:
    """Rank 0 evaluates or saves for several times the limit, and the others wait for it."""
    r.real = True
    what = r.rng.choice(("evaluate", "save"))
    r.note(f"rank 0 is to {what} for 20 s")
    r.launch(20, who=0, what=what, at=5, slow=20, options=["--hang-timeout", "4s"])
    return SUCCESS


def other_link_flaps_meanwhile(r: Round) -> Expected:
    """A host that cannot show its ranks for a while speaks for nothing; the stopped rank is named."""
    rank, r.real = r.any_rank(), True
    host = r.any_host()
    r.launch(options=_limit(r))
    r.ready()
    r.send("rank", r.host_of(rank), signal.SIGSTOP, rank)
    r.note(f"{host.name}: its link goes for a while")
    time.sleep(r.rng.uniform(0, 8))
    host.link(False)
    time.sleep(r.rng.uniform(0.5, 3))
    host.link(True)
    return _named(r, rank)


def stopped_without_torch(r: Round) -> Expected:
    """Nobody is seen in a collective, but a rank stands still for certain."""
    rank, r.real = r.any_rank(), False
    r.launch(steps(60), options=_limit(r))
    r.ready()
    r.send("rank", r.host_of(rank), signal.SIGSTOP, rank)
    return _named(r, rank)

"""Failures of runs that may begin again: another attempt succeeds, and what ended the first is kept."""

from __future__ import annotations

import contextlib
import signal
import time

from tests.chaos.rounds import LEASE, Broken, Expected, Round, steps

_SECONDS = 4.0
_SPARED = ("--spares", "1", "--max-restarts", "1")


def rank_restarts(r: Round) -> Expected:
    rank, kills = r.any_rank(), r.rng.choice((1, 1, 2))
    r.launch(steps(_SECONDS), options=["--max-restarts", str(kills)])
    r.ready()
    r.send("rank", r.host_of(rank), signal.SIGKILL, rank)
    ended = Expected((137,), ("signal",), r.host_of(rank).name, rank)
    if kills == 1:
        return Expected((0,), earlier=(ended,))
    r.ready(attempt=2)
    second = r.any_rank()
    r.send("rank", r.host_of(second), signal.SIGKILL, second)
    again = Expected((137,), ("signal",), r.host_of(second).name, second)
    return Expected((0,), earlier=(ended, again))


def engine_restarts(r: Round) -> Expected:
    host = r.any_host()
    r.launch(steps(_SECONDS), options=["--max-restarts", "1"])
    r.ready()
    r.send("engine", host, signal.SIGKILL)
    return Expected((0,), earlier=(Expected((1, 137), ("signal", "exit"), host.name),))


def agent_restarts(r: Round) -> Expected:
    host = r.any_host()
    r.launch(steps(_SECONDS), options=["--max-restarts", "1"])
    r.ready()
    r.send("agent", host, signal.SIGKILL)
    return Expected((0,), earlier=(Expected((125,), ("internal",), host.name),))


def crash_loop(r: Round) -> Expected:
    """What fails in the same way three times is not tried any more."""
    rank = r.any_rank()
    r.note(f"rank {rank} raises in every attempt")
    r.launch(who=rank, what="raise", at=2, options=["--max-restarts", "9"])
    ended = Expected((1,), ("exception",), r.host_of(rank).name, rank)
    r.returns()
    if "3 attempts in a row" not in r.outcome().no_restart:
        raise Broken(f"why there was no other attempt is not said: {r.outcome().no_restart!r}")
    return Expected(ended.codes, ended.kinds, ended.host, ended.rank, earlier=(ended, ended))


def spare_takes_over(r: Round) -> Expected:
    """The link of a host is cut for good: the spare takes its node rank, and the run succeeds."""
    host = r.any_host()
    r.launch(steps(_SECONDS), options=["-H", str(r.world.hostfile_with_spares), *_SPARED])
    r.ready()
    r.note(f"{host.name} cut off")
    host.link(False)
    code = r.returns()
    host.link(True)
    if code == 0 and r.world.spares[0].name not in r.outcome().attempts[-1].hosts:
        raise Broken(f"the spare was not used: {r.outcome().attempts[-1].hosts}")
    return Expected((0,), settles=LEASE, earlier=(Expected((121,), ("lost",), host.name),))


def told_while_restarting(r: Round) -> Expected:
    """Ctrl-C at any moment from the failure of the first attempt on."""
    rank = r.any_rank()
    r.launch(steps(30), options=["--max-restarts", "3"])
    r.ready()
    r.send("rank", r.host_of(rank), signal.SIGKILL, rank)
    time.sleep(r.rng.uniform(0.0, 10.0))
    with contextlib.suppress(ProcessLookupError):
        r.interrupt(signal.SIGINT)
    return Expected((123, 137), ("operator", "signal"), earlier=None)

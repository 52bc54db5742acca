"""Stops that meet a dead or suspended launch, another stop, or a host that cannot be reached."""

from __future__ import annotations

import signal

from tests.chaos.rounds import LEASE, Broken, Expected, Round


def _all_ended(r: Round) -> bool:
    return all(left == 0 for left in r.outcome().left_behind.values())


def two_stops(r: Round) -> Expected:
    """At once, on the run of a dead controller: one goes to the hosts, both end and say the same."""
    r.launch()
    r.ready()
    r.interrupt(signal.SIGKILL)
    r.returns()
    options = r.rng.choice(((), ("--now",)))
    codes = [r.end_of(each) for each in [r.begin("stop", r.directory.name, *options) for _ in range(2)]]
    if codes != [0, 0] or not _all_ended(r):
        raise Broken(f"stops ended with {codes}: {r.said}")
    return Expected((-signal.SIGKILL,), ("operator",))


def stop_of_suspended(r: Round) -> Expected:
    number = r.rng.choice((signal.SIGSTOP, signal.SIGTSTP))
    r.launch()
    r.ready()
    r.interrupt(number)
    if r.stop() != 0:
        raise Broken(f"stop: {r.said}")
    return Expected((123,), ("operator",))


def stop_while_unreachable(r: Round) -> Expected:
    """One host is cut off; its controller is alive, suspended or dead."""
    host, number = r.any_host(), r.rng.choice((signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT))
    r.launch()
    r.ready()
    r.note(f"{host.name} cut off")
    host.link(False)
    r.interrupt(number)
    if number == signal.SIGKILL:
        r.returns()
    code = r.stop("--now")
    if code != 125 or host.name not in r.said[-1]:
        raise Broken(f"stop ended with {code}: {r.said}")
    r.returns()
    if r.outcome().left_behind[host.name] is not None:
        raise Broken(f"left_behind: {r.outcome().left_behind}")
    host.link(True)
    codes = (-signal.SIGKILL,) if number == signal.SIGKILL else (123,)
    return Expected(codes, ("operator",), settles=LEASE, logs=False)


def agent_stands_still_alone(r: Round) -> Expected:
    """An agent is stopped, and its controller is killed for good: the lease ends the ranks all the same."""
    r.launch()
    r.ready()
    r.send("agent", r.any_host(), signal.SIGSTOP)
    r.interrupt(signal.SIGKILL)
    return Expected((-signal.SIGKILL,), outcome=False, settles=LEASE)

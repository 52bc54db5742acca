"""Faults of whole hosts, and faults at any moment of a launch, its start included."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from pathlib import Path

from tests.chaos.hosts import USER, Host
from tests.chaos.processes import Process, find
from tests.chaos.rounds import LEASE, SUCCESS, Broken, Expected, Round, steps


def host_cleared(r: Round) -> Expected:
    """Somebody's `kill -9 -1`, or the out-of-memory killer at its worst."""
    host = r.any_host()
    r.launch()
    r.ready()
    r.note(f"everything of {USER} on {host.name} is killed")
    for each in _of_user(host):
        with contextlib.suppress(ProcessLookupError):
            each.send(signal.SIGKILL)
    return Expected((125, 137), ("internal", "signal"), host.name, logs=False)


def child_hides(r: Round) -> Expected:
    """A rank has started what left its session and cleared its environment; then all that could know of it is
    killed. It lives, and is named."""
    rank, r.real = r.any_rank(), False
    host = r.host_of(rank)
    r.launch(who=rank, what="hide", at=1)
    r.ready()
    r.wait_until(lambda: bool(_hidden(host)), "the child has hidden itself")
    r.note(f"all of the run on {host.name} is killed but a child of rank {rank} that hides")
    (hidden,) = _hidden(host)
    roles = [each for role in ("waiter", "agent", "engine", "rank") for each in find(host.processes(), role)]
    for number in (signal.SIGSTOP, signal.SIGKILL):  # nobody looks for it in between
        for each in roles:
            with contextlib.suppress(ProcessLookupError):
                each.send(number)
    r.returns()
    sweep = r.ask("sweep", "--dry-run", "-H", str(r.world.hostfile))
    if sweep() or "sleep 3600" not in r.said[-1] or "-- kill " not in r.said[-1]:
        raise Broken(f"sweep does not name what hides: {r.said[-1]}")
    if r.outcome().left_behind[host.name] != 1 or "sleep 3600: " not in r.screen.read_text(errors="replace"):
        raise Broken(f"launch does not name what hides: {r.outcome().left_behind}")
    hidden.send(signal.SIGKILL)
    return Expected((125, 137), ("internal", "signal"), host.name, logs=False)


def _hidden(host: Host) -> list[Process]:
    return [each for each in host.processes() if each.command == "sleep 3600"]


def host_stands_still(r: Round) -> Expected:
    host, seconds = r.any_host(), r.rng.uniform(1, 8)
    r.launch(steps(10))
    r.ready()
    r.note(f"everything of {USER} on {host.name} stands still for {seconds:.1f} s")
    stopped = _of_user(host)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for each in stopped:
            with contextlib.suppress(ProcessLookupError):
                each.send(number)
        if number == signal.SIGSTOP:
            time.sleep(seconds)
    return SUCCESS


def host_slow(r: Round) -> Expected:
    """A host that has a fifth of its time."""
    host, seconds = r.any_host(), r.rng.uniform(3, 8)
    r.launch(steps(10))
    r.ready()
    r.note(f"everything of {USER} on {host.name} is slow for {seconds:.1f} s")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for number, pause in ((signal.SIGSTOP, 0.4), (signal.SIGCONT, 0.1)):
            for each in _of_user(host):
                with contextlib.suppress(ProcessLookupError):
                    each.send(number)
            time.sleep(pause)
    return SUCCESS


def link_slow(r: Round) -> Expected:
    """What ranks print is more than the link carries."""
    host, rate = r.any_host(), r.rng.choice(("300kbit", "1mbit"))
    r.launch(steps(6), size=3000)
    r.ready()
    r.note(f"the link of {host.name} carries {rate}")
    with host.slow_link(rate):
        r.returns()
    return SUCCESS


def helper_killed(r: Round) -> Expected:
    """What counts and what watches is not needed."""
    r.launch(steps(6))
    r.ready()
    r.send(r.rng.choice(("observer", "watcher")), r.any_host(), signal.SIGKILL)
    return SUCCESS


def helper_stopped(r: Round) -> Expected:
    r.launch(steps(6))
    r.ready()
    r.send(r.rng.choice(("observer", "watcher")), r.any_host(), signal.SIGSTOP)
    return SUCCESS


def directory_removed(r: Round) -> Expected:
    host = r.any_host()
    r.launch()
    r.ready()
    r.note(f"~/.clusterctl of {host.name} is removed")
    shutil.rmtree(host.see(f"/home/{USER}/.clusterctl"), ignore_errors=True)
    return Expected((121, 125), ("lost", "internal"), host.name, settles=LEASE, logs=False)


def sshd_restarts(r: Round) -> Expected:
    host = r.any_host()
    r.launch(steps(10))
    r.ready()
    r.note(f"sshd of {host.name} and its sessions are killed, another starts after a while")
    for each in find(host.processes(), "sshd"):
        with contextlib.suppress(ProcessLookupError):
            each.send(signal.SIGKILL)
    time.sleep(r.rng.uniform(0.5, 4))
    host.serve()
    return SUCCESS


def link_flaps(r: Round) -> Expected:
    host = r.any_host()
    r.launch(steps(10))
    r.ready()
    r.note(f"{host.name}: its link comes and goes")
    for _ in range(r.rng.randrange(3, 8)):
        host.link(False)
        time.sleep(r.rng.uniform(0.05, 1.0))
        host.link(True)
        time.sleep(r.rng.uniform(0.05, 1.0))
    return SUCCESS


def one_way(r: Round) -> Expected:
    """What the host sends arrives, what is sent to it does not; or the other way round."""
    host, seconds, outward = r.any_host(), r.rng.uniform(1, 6), r.rng.random() < 0.5
    r.launch(steps(10))
    r.ready()
    r.note(f"{host.name}: nothing {'leaves it' if outward else 'reaches it'} for {seconds:.1f} s")
    with host.dropping(outward=outward):
        time.sleep(seconds)
    return SUCCESS


def one_way_for_good(r: Round) -> Expected:
    host, outward = r.any_host(), r.rng.random() < 0.5
    r.launch()
    r.ready()
    r.note(f"{host.name}: nothing {'leaves it' if outward else 'reaches it'} any more")
    with host.dropping(outward=outward):
        r.returns()
    return Expected((121,), ("lost",), host.name, settles=LEASE)


def killed_while_starting(r: Round) -> Expected:
    """Some process of the run, at a moment when not all are there yet. Which cause is right depends on it."""
    host, role = r.any_host(), r.rng.choice(("rank", "waiter", "engine", "agent", "relay", "session"))
    number = r.rng.choice((signal.SIGKILL, signal.SIGTERM))
    r.launch(20)
    seen: list[Process] = []

    def there() -> bool:
        seen[:] = find(host.processes(), role)
        return bool(seen)

    r.wait_until(there, f"a {role} on {host.name}")
    time.sleep(r.rng.random() * r.rng.choice((0.0, 0.2, 1.0)))
    r.note(f"{signal.Signals(number).name} to {role} on {host.name}")
    with contextlib.suppress(ProcessLookupError):
        seen[0].send(number)
    return Expected((0, 1, 120, 121, 125, 137, 143), outcome=False, settles=LEASE)


def told_while_starting(r: Round) -> Expected:
    """Ctrl-C at any moment from the first on: before a run exists it is 130, afterwards 123.

    Not before the program's own first line: what python says while it loads itself is its own.
    """
    r.launch()
    process = r.process
    assert process is not None
    maps = Path(f"/proc/{process.pid}/maps")
    r.wait_until(lambda: process.poll() is not None or "msgspec" in maps.read_text(), "it has begun")
    time.sleep(r.rng.uniform(0.0, 6.0))
    r.interrupt(signal.SIGINT)
    if r.rng.random() < 0.5:
        time.sleep(r.rng.uniform(0.0, 2.0))
        r.interrupt(signal.SIGINT)
    return Expected((123, 130), outcome=False, settles=LEASE)


def _of_user(host: Host) -> list[Process]:
    """All but the host's own: its first process and its sshd, which may be another than the first one."""
    return [
        each
        for each in host.processes()
        if host.root not in (each.pid, each.parent) and "[listener]" not in each.command
    ]

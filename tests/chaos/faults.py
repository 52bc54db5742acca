"""The faults of a campaign. Each starts a launch, does its harm, and says how the launch may end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from tests.chaos import away_faults, detached_faults, hang_faults, host_faults, log_faults, restart_faults
from tests.chaos.controller_faults import few_descriptors, no_descriptors, run_directory_gone
from tests.chaos.hostile_faults import hostile_events, hostile_login, hostile_python
from tests.chaos.kernel_faults import (
    child_became_root,
    home_frozen,
    killed_beside_out_of_memory,
    neighbour_stuck,
    out_of_memory,
    stuck_in_kernel,
)
from tests.chaos.launch_faults import two_launches
from tests.chaos.launcher_faults import pdsh_login_fails
from tests.chaos.operator_faults import (
    agent_stands_still_alone,
    stop_of_suspended,
    stop_while_unreachable,
    two_stops,
)
from tests.chaos.processes import find
from tests.chaos.rounds import LEASE, SUCCESS, Expected, Round, steps

Fault = Callable[[Round], Expected]


# Ranks


def rank_raises(r: Round) -> Expected:
    rank, slow = r.any_rank(), r.rng.choice((0.0, 0.0, 3.0))
    r.note(f"rank {rank} raises, exit handlers take {slow:g} s")
    r.launch(who=rank, what="raise", at=r.rng.randrange(1, 40), slow=slow)
    return Expected((1,), ("exception",), r.host_of(rank).name, rank)


def rank_exits(r: Round) -> Expected:
    rank = r.any_rank()
    r.note(f"rank {rank} ends with 7")
    r.launch(who=rank, what="exit", at=r.rng.randrange(1, 40))
    return Expected((7,), ("exit",), r.host_of(rank).name, rank)


def rank_killed(r: Round) -> Expected:
    rank = r.any_rank()
    number = r.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM))
    r.launch()
    r.ready()
    r.send("rank", r.host_of(rank), number, rank)
    return Expected((128 + number,), ("signal",), r.host_of(rank).name, rank)


def rank_kills_itself(r: Round) -> Expected:
    rank, name = r.any_rank(), r.rng.choice(("SIGKILL", "SIGSEGV", "SIGTERM"))
    r.note(f"rank {rank}: {name} to itself")
    r.launch(who=rank, what=name, at=r.rng.randrange(1, 40))
    code = 128 + getattr(signal, name)
    return Expected((code,), ("signal",), r.host_of(rank).name, rank)


def rank_stopped(r: Round) -> Expected:
    rank = r.any_rank()
    r.launch(options=["--time-limit", "240s" if r.real else "12s"])
    r.ready()
    r.send("rank", r.host_of(rank), signal.SIGSTOP, rank)
    return Expected((124,), ("timeout",))


def waiter_killed(r: Round) -> Expected:
    rank = r.any_rank()
    r.launch()
    r.ready()
    r.send("waiter", r.host_of(rank), signal.SIGKILL, rank)
    return Expected((137,), ("signal",), r.host_of(rank).name, rank)


# What stands between


def engine_killed(r: Round) -> Expected:
    host, number = r.any_host(), r.rng.choice((signal.SIGKILL, signal.SIGTERM))
    r.launch()
    r.ready()
    r.send("engine", host, number)
    return Expected((1, 137, 143), ("signal", "exit"), host.name)


def engine_stopped(r: Round) -> Expected:
    """Once all ranks have ended well, hosts wait for it no longer than 30 s, if no time limit comes first."""
    r.launch(steps(2), options=() if r.real else ("--time-limit", "12s"))
    r.ready()
    r.send("engine", r.any_host(), signal.SIGSTOP)
    return SUCCESS if r.real else Expected((124,), ("timeout",))


def agent_killed(r: Round) -> Expected:
    host, number = r.any_host(), r.rng.choice((signal.SIGKILL, signal.SIGTERM))
    r.launch()
    r.ready()
    r.send("agent", host, number)
    return Expected((125,), ("internal",), host.name)


def agent_stopped(r: Round) -> Expected:
    r.launch(options=["--time-limit", "240s" if r.real else "12s"])
    r.ready()
    r.send("agent", r.any_host(), signal.SIGSTOP)
    return Expected((124,), ("timeout",), logs=False)


def relay_killed(r: Round) -> Expected:
    number = r.rng.choice((signal.SIGKILL, signal.SIGTERM))
    r.launch(steps(6))
    r.ready()
    r.send("relay", r.any_host(), number)
    return SUCCESS


def relay_stopped(r: Round) -> Expected:
    r.launch(steps(6))
    r.ready()
    r.send("relay", r.any_host(), signal.SIGSTOP)
    return SUCCESS


def session_killed(r: Round) -> Expected:
    r.launch(steps(6))
    r.ready()
    r.send("session", r.any_host(), signal.SIGKILL)
    return SUCCESS


# The controlling machine


def controller_told(r: Round) -> Expected:
    number = r.rng.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    r.launch()
    r.ready()
    r.interrupt(number)
    for _ in range(r.rng.choice((0, 1, 4))):
        time.sleep(0.1)
        r.interrupt(number)
    return Expected((123,), ("operator",))


def controller_killed(r: Round) -> Expected:
    r.launch()
    r.ready()
    r.interrupt(signal.SIGKILL)
    r.returns()
    r.stop()
    return Expected((-9,), ("operator",))


def controller_killed_for_good(r: Round) -> Expected:
    r.launch()
    r.ready()
    r.interrupt(signal.SIGKILL)
    return Expected((-9,), outcome=False, settles=LEASE)


def terminal_blocked(r: Round) -> Expected:
    rank = r.any_rank()
    r.launch(size=30_000, unread=True)
    r.ready()
    time.sleep(1.0)
    if r.rng.random() < 0.5:
        r.send("rank", r.host_of(rank), signal.SIGKILL, rank)
        return Expected((137,), ("signal",), r.host_of(rank).name, rank)
    r.interrupt(signal.SIGINT)
    time.sleep(0.2)
    r.interrupt(signal.SIGINT)
    return Expected((123,), ("operator",))


# Links


def link_cut(r: Round) -> Expected:
    host, seconds = r.any_host(), r.rng.uniform(1, 6)
    r.launch(steps(8))
    r.ready()
    r.note(f"{host.name} cut off for {seconds:.1f} s")
    host.link(False)
    time.sleep(seconds)
    host.link(True)
    return SUCCESS


def all_links_cut(r: Round) -> Expected:
    r.launch(steps(8))
    r.ready()
    for host in r.world.hosts:
        host.link(False)
    time.sleep(r.rng.uniform(1, 5))
    for host in r.world.hosts:
        host.link(True)
    return SUCCESS


def all_links_cut_for_a_lease(r: Round) -> Expected:
    """Until the hosts end their ranks by themselves; in some rounds the controller hears of it afterwards."""
    r.launch()
    r.ready()
    for host in r.world.hosts:
        host.link(False)
    if r.rng.random() < 0.5:
        r.wait_until(
            lambda: not any(find(host.processes(), "rank") for host in r.world.hosts), "no rank lives"
        )
        r.note("back as soon as the ranks have ended")
    else:
        r.returns()
    for host in r.world.hosts:
        host.link(True)
    return Expected((121,), ("lost",), blames=False, settles=LEASE)


def link_cut_for_good(r: Round) -> Expected:
    host = r.any_host()
    r.launch()
    r.ready()
    r.note(f"{host.name} cut off")
    host.link(False)
    r.returns()
    host.link(True)
    return Expected((121,), ("lost",), host.name, settles=LEASE)


# Disks


def disk_fills(r: Round) -> Expected:
    host = r.any_host()
    r.launch(size=5000)
    r.ready()
    r.note(f"the disk of {host.name} is full")
    host.fill()
    r.returns()
    host.drain()
    return Expected((1, 120, 125), ("exception", "exit", "internal"), host.name, logs=False)


def disk_is_full(r: Round) -> Expected:
    host = r.any_host()
    host.fill()
    r.note(f"the disk of {host.name} is full")
    r.launch(3)
    r.returns()
    host.drain()
    return Expected((1, 120, 125), outcome=False)


def controller_disk_fills(r: Round) -> Expected:
    r.launch(steps(3), size=2000)
    r.ready()
    filler = r.world.home / "filler"
    with filler.open("wb") as stream:
        try:
            while True:
                stream.write(b"\0" * 2**20)
                stream.flush()
        except OSError:
            r.note("the controller's disk is full")
    for_good = r.rng.random() < 0.5
    if not for_good:
        time.sleep(2.0)
        filler.unlink()
    r.returns()
    filler.unlink(missing_ok=True)
    return Expected((0,), outcome=not for_good)


KILLS: dict[str, tuple[int, Fault]] = {
    "rank-raises": (4, rank_raises),
    "rank-killed": (4, rank_killed),
    "rank-kills-itself": (2, rank_kills_itself),
    "rank-exits": (2, rank_exits),
}
FAULTS: dict[str, tuple[int, Fault]] = {
    **{name: (2, fault) for name, (_, fault) in KILLS.items()},
    "rank-stopped": (1, rank_stopped),
    "waiter-killed": (1, waiter_killed),
    "engine-killed": (2, engine_killed),
    "engine-stopped": (1, engine_stopped),
    "agent-killed": (2, agent_killed),
    "agent-stopped": (1, agent_stopped),
    "relay-killed": (2, relay_killed),
    "relay-stopped": (1, relay_stopped),
    "session-killed": (2, session_killed),
    "controller-told": (2, controller_told),
    "controller-killed": (2, controller_killed),
    "controller-killed-for-good": (1, controller_killed_for_good),
    "terminal-blocked": (2, terminal_blocked),
    "link-cut": (2, link_cut),
    "all-links-cut": (1, all_links_cut),
    "all-links-cut-for-a-lease": (1, all_links_cut_for_a_lease),
    "link-cut-for-good": (1, link_cut_for_good),
    "disk-fills": (2, disk_fills),
    "disk-is-full": (1, disk_is_full),
    "controller-disk-fills": (2, controller_disk_fills),
    "hostile-events": (2, hostile_events),
    "hostile-python": (1, hostile_python),
    "hostile-login": (1, hostile_login),
    "host-cleared": (1, host_faults.host_cleared),
    "host-stands-still": (1, host_faults.host_stands_still),
    "directory-removed": (1, host_faults.directory_removed),
    "sshd-restarts": (1, host_faults.sshd_restarts),
    "link-flaps": (1, host_faults.link_flaps),
    "one-way": (1, host_faults.one_way),
    "killed-while-starting": (3, host_faults.killed_while_starting),
    "told-while-starting": (2, host_faults.told_while_starting),
    "stuck-in-kernel": (1, stuck_in_kernel),
    "neighbour-stuck": (1, neighbour_stuck),
    "home-frozen": (1, home_frozen),
    "out-of-memory": (1, out_of_memory),
    "killed-beside-out-of-memory": (1, killed_beside_out_of_memory),
    "child-became-root": (1, child_became_root),
    "child-hides": (1, host_faults.child_hides),
    "two-launches": (1, two_launches),
    "two-stops": (1, two_stops),
    "stop-of-suspended": (1, stop_of_suspended),
    "stop-while-unreachable": (1, stop_while_unreachable),
    "few-descriptors": (1, few_descriptors),
    "no-descriptors": (1, no_descriptors),
    "run-directory-gone": (1, run_directory_gone),
    "agent-stands-still-alone": (1, agent_stands_still_alone),
    "pdsh-login-fails": (1, pdsh_login_fails),
    "hang-stopped": (2, hang_faults.hang_stopped),
    "hang-sleeps": (2, hang_faults.hang_sleeps),
    "hang-other-collective": (2, hang_faults.hang_other_collective),
    "hang-reported": (1, hang_faults.hang_reported),
    "hang-restarts": (1, hang_faults.hang_restarts),
    "hang-and-link-flaps": (1, hang_faults.other_link_flaps_meanwhile),
    "hang-without-torch": (1, hang_faults.stopped_without_torch),
    "works-in-silence": (2, hang_faults.works_in_silence),
    "rank-restarts": (2, restart_faults.rank_restarts),
    "engine-restarts": (1, restart_faults.engine_restarts),
    "agent-restarts": (1, restart_faults.agent_restarts),
    "crash-loop": (1, restart_faults.crash_loop),
    "spare-takes-over": (1, restart_faults.spare_takes_over),
    "told-while-restarting": (2, restart_faults.told_while_restarting),
    "detached-alone": (3, detached_faults.detached_alone),
    "detached-over": (1, detached_faults.detached_over),
    "detached-stopped": (1, detached_faults.detached_stopped),
    "detached-rank-killed": (2, detached_faults.detached_rank_killed),
    "detached-stop": (1, detached_faults.detached_stop),
    "detached-in-second-attempt": (1, detached_faults.detached_in_second_attempt),
    "detached-between": (2, detached_faults.detached_between),
    "detached-hang": (1, detached_faults.detached_hang),
    "away-for-longer-than-the-lease": (1, away_faults.away_for_longer_than_the_lease),
    "clock-is-set": (2, away_faults.clock_is_set),
    "two-attach": (1, detached_faults.two_attach),
    "host-slow": (1, host_faults.host_slow),
    "link-slow": (1, host_faults.link_slow),
    "one-way-for-good": (1, host_faults.one_way_for_good),
    "helper-killed": (1, host_faults.helper_killed),
    "helper-stopped": (1, host_faults.helper_stopped),
    "log-overflows": (2, log_faults.log_overflows),
}
"""Name -> how often it is drawn, and what it does."""

"""The faults of a campaign. Each starts a launch, does its harm, and says how the launch may end."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable

from tests.chaos import host_faults
from tests.chaos.controller_faults import few_descriptors, no_descriptors, run_directory_gone
from tests.chaos.hosts import USER
from tests.chaos.kernel_faults import (
    child_became_root,
    home_frozen,
    killed_beside_out_of_memory,
    neighbour_stuck,
    out_of_memory,
    stuck_in_kernel,
)
from tests.chaos.launcher_faults import pdsh_login_fails
from tests.chaos.operator_faults import (
    agent_stands_still_alone,
    stop_of_suspended,
    stop_while_unreachable,
    two_stops,
)
from tests.chaos.rounds import LEASE, SUCCESS, Expected, Round

Fault = Callable[[Round], Expected]


def steps(seconds: float) -> int:
    """At least so long does a rank step."""
    return int(seconds / 0.05)


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
    r.launch(options=["--time-limit", "60s" if r.real else "8s"])
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
    r.launch(steps(2), options=["--time-limit", "60s" if r.real else "8s"])
    r.ready()
    r.send("engine", r.any_host(), signal.SIGSTOP)
    return Expected((124,), ("timeout",))


def agent_killed(r: Round) -> Expected:
    host, number = r.any_host(), r.rng.choice((signal.SIGKILL, signal.SIGTERM))
    r.launch()
    r.ready()
    r.send("agent", host, number)
    return Expected((125,), ("internal",), host.name)


def agent_stopped(r: Round) -> Expected:
    r.launch(options=["--time-limit", "60s" if r.real else "8s"])
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


# Hosts that send what they should not

HOSTILE_EVENTS = (
    "[" * 100_000,
    '{"event": "rank-exit"}',
    '{"event": "rank-exit", "time": "now", "rank": "none"}',
    '{"event": "end", "left": 0, "time": 1.0, "processes": [], "host": "%(other)s", "node_rank": %(node)d}',
    '{"event": "failure", "time": 1.0, "reason": "\\u001b]0;owned\\u0007\\u001b[2J"}',
    '{"event": "nothing we know", "time": 1.0}',
    "x" * 5_000_000,
    "\udcff\udcfe not utf-8",
)  # fmt: skip


def hostile_events(r: Round) -> Expected:
    host = r.any_host()
    text = r.rng.choice(HOSTILE_EVENTS)
    other = next(each for each in r.world.hosts if each is not host)
    if "%(other)s" in text:
        text %= {"other": other.name, "node": r.world.hosts.index(other)}
    r.launch(steps(4))
    r.ready()
    (events,) = host.see(f"/home/{USER}/.clusterctl/node").glob("*/*/events.jsonl")
    r.note(f"into events.jsonl of {host.name}: {text[:60]}")
    with events.open("ab") as stream:
        stream.write(text.encode("utf-8", "surrogateescape") + b"\n")
    return Expected((0, 121, 125), ("internal", "lost"), host.name, settles=LEASE, logs=False)


SHIMS = (
    'printf "garbage \\033]0;owned\\007\\n"',
    'printf "%s\\n" \'{"is": "complete", "logs": {"../../x": {"size": 1, "sha256": "0"}}}\'',
    "head -c 3000000 /dev/zero | tr '\\0' '['; echo",
    "head -c 30000000 /dev/zero | tr '\\0' 'x'",
    "yes garbage",
    "printf '%s' '{\"is\": '; head -c 3000000 /dev/zero | tr '\\0' '['; echo",
    'echo warning: this host is old >&2; printf "\\033[2Jwelcome\\n" >&2',
)


def hostile_python(r: Round) -> Expected:
    host, noise = r.any_host(), r.rng.choice(SHIMS)
    target = "/usr/bin/python3"
    shim = r.world.folder / "shim"
    shim.write_text(f'#!/bin/sh\n{noise}\nexec {sys.executable} "$@"\n')
    shim.chmod(0o755)
    r.note(f"python3 of {host.name} first says {noise[:60]}")
    host.inside("mount", "--bind", str(shim), target)
    try:
        r.launch(3)
        r.returns()
    finally:
        host.inside("umount", "-l", target)
    return Expected((0, 1, 120, 121, 125), outcome=False, settles=LEASE)


def hostile_login(r: Round) -> Expected:
    host, noise = r.any_host(), r.rng.choice(SHIMS)
    r.note(f".bashrc of {host.name}: {noise[:60]}")
    files = [host.see(f"/home/{USER}/{name}") for name in (".bashrc", ".bash_profile")]
    for path in files:
        path.write_text(noise + "\n")
    try:
        r.launch(3)
        r.returns()
    finally:
        for path in files:
            path.unlink()
    return Expected((0, 1, 120, 121, 125), outcome=False, settles=LEASE)


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
    "two-stops": (1, two_stops),
    "stop-of-suspended": (1, stop_of_suspended),
    "stop-while-unreachable": (1, stop_while_unreachable),
    "few-descriptors": (1, few_descriptors),
    "no-descriptors": (1, no_descriptors),
    "run-directory-gone": (1, run_directory_gone),
    "agent-stands-still-alone": (1, agent_stands_still_alone),
    "pdsh-login-fails": (1, pdsh_login_fails),
}
"""Name -> how often it is drawn, and what it does."""

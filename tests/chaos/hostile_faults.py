"""Hosts that send what they should not."""

from __future__ import annotations

import sys

from tests.chaos.hosts import USER
from tests.chaos.rounds import LEASE, Expected, Round, steps

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

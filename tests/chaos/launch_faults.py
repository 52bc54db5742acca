"""Launches that meet another launch, on hosts that both want."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import msgspec

from clusterctl.store.outcome import Outcome
from tests.chaos.processes import find
from tests.chaos.rounds import Broken, Expected, Round


def two_launches(r: Round) -> Expected:
    """At once, or a moment apart: one gets all hosts, the other is refused and names it."""
    apart = r.rng.choice((0.0, 0.0, r.rng.random(), 3 * r.rng.random()))
    r.note(f"another launch {apart:.2f} s later")
    r.launch()
    assert r.process is not None
    both = {r.process: r.screen.rename(r.screen.with_name("screen-of-the-first"))}
    time.sleep(apart)
    r.launch()
    both[r.process] = r.screen
    r.wait_until(lambda: any(each.poll() is not None for each in both), "one of the two is over")
    over = next(each for each in both if each.poll() is not None)
    screen = both.pop(over)
    r.process, r.screen = both.popitem()
    refused, holder = _by_outcome(r.world.home / "runs")
    _check_refused(r, over.returncode, screen, refused, holder)
    r.ready()
    _check_never_ran(r, refused, holder)
    shutil.rmtree(refused)
    for host in r.world.hosts:
        ranks = find(host.processes(), "rank")
        if len(ranks) != r.slots:
            raise Broken(f"{len(ranks)} ranks on {host.name}")
    if code := r.stop(*r.rng.choice(((), ("--now",)))):
        raise Broken(f"stop of the other ended with {code}: {r.said[-1]}")
    return Expected((123,), ("operator",))


def _by_outcome(runs: Path) -> tuple[Path, Path]:
    """The run that is over, and the one that is not."""
    found = sorted(runs.glob("[0-9]*"), key=lambda each: not (each / "outcome.json").exists())
    if [(each / "outcome.json").exists() for each in found] != [True, False]:
        raise Broken(f"not one of two runs is over: {[sorted(each.iterdir()) for each in found]}")
    return found[0], found[1]


def _check_refused(r: Round, code: int, screen: Path, run: Path, holder: Path) -> None:
    text = screen.read_text(errors="replace")
    outcome = msgspec.json.decode((run / "outcome.json").read_bytes(), type=Outcome)
    if (code, outcome.status) != (120, "refused"):
        raise Broken(f"the first of two launches that is over: {code}, {outcome.status}; {text[-600:]}")
    if outcome.cause is None or outcome.cause.holder != holder.name or f"run {holder.name}" not in text:
        raise Broken(f"it does not name {holder.name}: {outcome.cause}; {text[-600:]}")
    if outcome.left_behind != {each.name: 0 for each in r.world.hosts}:
        raise Broken(f"left_behind of the launch that was refused: {outcome.left_behind}")


def _check_never_ran(r: Round, refused: Path, holder: Path) -> None:
    """But where each had got some hosts, and the one that had to give way was told so a moment later."""
    if "which begins at the same time" in (holder / "events.jsonl").read_text():
        r.note("each had got some")
        return
    events = [json.loads(line) for line in (refused / "events.jsonl").read_text().splitlines()]
    if begun := [each for each in events if each["event"] in ("engine", "rank-start")]:
        raise Broken(f"something ran of the launch that was refused: {begun}")

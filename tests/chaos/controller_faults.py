"""Faults of the controlling machine: no descriptors, a run directory that is gone, a home that is a file."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import time
from pathlib import Path

from tests.chaos.rounds import Broken, Expected, Round

_SECONDS = 3.0


def _is_told(r: Round, run: Path, code: int) -> None:
    """What could not be kept in the run's directory is on stderr."""
    if (run / "outcome.json").exists():
        return
    for line in r.screen.read_text(errors="replace").splitlines():
        if line.startswith('{"') and json.loads(line).get("exit_code") == code:
            return
    raise Broken(f"no outcome with exit code {code}, neither kept nor on the screen")


def _fails(r: Round) -> tuple[int, ...]:
    """Half of the rounds: a rank is killed meanwhile. The exit codes that are right then."""
    if r.rng.random() < 0.5:
        return (0,)
    rank = r.any_rank()
    r.send("rank", r.host_of(rank), signal.SIGKILL, rank)
    return (137,)


def no_descriptors(r: Round) -> Expected:
    """Launch can open nothing more, for a while or for good."""
    for_good = r.rng.random() < 0.5
    r.note(f"no descriptors for launch {'any more' if for_good else 'for a while'}")
    r.launch(int(2 * _SECONDS / 0.05), size=500)
    r.ready()
    assert r.process is not None
    before = resource.prlimit(r.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(r.process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    run, codes = r.directory, _fails(r)
    if not for_good:
        time.sleep(_SECONDS / 2)
        if r.process.poll() is None:
            resource.prlimit(r.process.pid, resource.RLIMIT_NOFILE, before)
    if r.returns() in codes:
        _is_told(r, run, codes[0])
    return Expected(codes, outcome=False)


def run_directory_gone(r: Round) -> Expected:
    """The run's directory is removed or moved away, or all runs are where a file is now."""
    way = r.rng.choice(("removed", "moved away", "a file", "moved away for a while"))
    r.note(f"the run's directory: {way}")
    r.launch(int(2 * _SECONDS / 0.05), size=500)
    r.ready()
    run, runs, aside = r.directory, r.world.home / "runs", r.world.home / "aside"
    if way == "removed":
        shutil.rmtree(run)
    elif way == "a file":
        runs.rename(aside)
        runs.touch()
    else:
        run.rename(aside)
    codes = _fails(r)
    if way == "moved away for a while":
        time.sleep(_SECONDS / 2)
        aside.rename(run)
    if r.returns() in codes:
        _is_told(r, run, codes[0])
    _put_back(runs, aside)
    return Expected(codes, outcome=False)


def few_descriptors(r: Round) -> Expected:
    """From the start on: it runs, or says why it cannot."""
    count = r.rng.randrange(12, 140)
    r.note(f"ulimit -n {count}")
    r.launch(3, within=("prlimit", f"--nofile={count}"))
    code = r.returns()
    said = r.screen.read_text(errors="replace")
    if code and "open files" not in said:
        raise Broken(f"exit code {code} without the reason: {said[-600:]}")
    return Expected((0, 1, 64, 120, 125), outcome=False)


def _put_back(runs: Path, aside: Path) -> None:
    if runs.is_file():
        runs.unlink()
        aside.rename(runs)
    elif aside.exists():
        shutil.rmtree(aside)

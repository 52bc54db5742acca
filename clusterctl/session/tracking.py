"""A run's metrics, on their way to W&B or trackio: by a process of its own, which reads what the run's
directory has. It may fail, hang or be missing: the run neither waits for it nor hears of it more than once.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.plan.model import LaunchPlan
from clusterctl.run.display import Display
from clusterctl.run.metrics.tensorboard import Scalars
from clusterctl.session import clusters
from clusterctl.session.trackers import Tracker, TrackerName, is_installed, open_tracker
from clusterctl.settings import HOME_VARIABLE
from clusterctl.store.metrics import MetricsTail
from clusterctl.store.runs import RunDirectory

LOG = "track.log"
_LOOK = 1.0
_ALONE = 60.0
"""Seconds without a controller, after which a run is taken for interrupted."""
_PATIENCE = 600
"""Seconds that a library may take for one thing,"""
_ALARM = 14
"""and the signal by which its process ends then."""


class Sent(msgspec.Struct, kw_only=True):
    """``track-<tracker>.json`` of a run: where its metrics are to be found, and how far they are there."""

    where: str = ""
    attempt: int = 0
    step: int = -1


def begin(directory: RunDirectory, plan: LaunchPlan, display: Display) -> None:
    """Have the metrics of this run sent to where its launch wanted them. Waits for nothing; ``display`` is
    told where they go, and once when nothing goes there any more."""
    if plan.track:
        args = (directory, plan.track, display)
        threading.Thread(target=_begin, args=args, name="tracking", daemon=True).start()


def send(
    directory: RunDirectory,
    name: TrackerName,
    told: Callable[[Sent], None],
    end_after: Callable[[int], object],
) -> Sent:
    """Send what the run has told of its steps, to its end; ``told`` hears where that is, once there is one.
    ``end_after`` ends this process after so many seconds unless it is called again, 0: not at all. Raises
    UsageError where another process does so already, and whatever the library raises."""
    project = clusters.tracking().project
    with _alone(directory, name):
        kept = directory.find(_kept(name), Sent) or Sent()
        first, seen = (kept.attempt, kept.step + 1), time.monotonic()
        tail, scalars = MetricsTail(directory.path), Scalars()
        tracker: Tracker | None = None
        while True:
            supervised, outcome = directory.supervised(), directory.outcome()  # before the look at the steps
            seen = time.monotonic() if supervised else seen
            for step in tail.news():
                values = scalars.news(step)
                if not values or (step.attempt, step.step) < first:
                    continue
                end_after(_PATIENCE)  # a library may hang
                if tracker is None:
                    config = config_of(directory.plan())
                    tracker = open_tracker(name, directory.run, config, directory.path, project)
                    kept.where = tracker.where
                    told(kept)
                tracker.log(step.step, {"attempt": step.attempt, **values})
                kept.attempt, kept.step = max((kept.attempt, kept.step), (step.attempt, step.step))
            if tracker is not None:
                directory.write(_kept(name), kept)
            end_after(0)
            if outcome is not None or time.monotonic() - seen > _ALONE:
                break
            time.sleep(_LOOK)
        if tracker is not None:
            end_after(_PATIENCE)
            status, code = (outcome.status, outcome.exit_code) if outcome else ("interrupted", 1)
            tracker.finish(status, code)
            end_after(0)
        return kept


def config_of(plan: LaunchPlan) -> dict[str, Any]:
    """What a run is, without secrets: a plan on the disk hides them."""
    return {
        "run": plan.run,
        "command": " ".join((*plan.command, *plan.arguments)),
        "start": plan.start,
        "world_size": plan.world_size,
        "hosts": {node.host: len(node.ranks) for node in plan.nodes},
        "git": msgspec.to_builtins(plan.code.git),
        "variables": {
            node.host: {setting.name: setting.value for setting in node.settings} for node in plan.nodes
        },
    }


def _begin(directory: RunDirectory, name: TrackerName, display: Display) -> None:
    later = f"clusterctl track {directory.run} --to {name} sends it later"

    def say(text: str) -> None:
        display.say(text)
        with suppress(OSError):
            directory.append_event({"event": "say", "time": time.time(), "text": text})

    if not is_installed(name):
        say(f"{name} gets nothing of this run: it is not installed here; {later}")
        return
    try:
        process = _start(directory, name)
    except OSError as error:
        say(f"{name} gets nothing of this run: {error.strerror}; {later}")
        return
    told = False
    while process is not None and process.poll() is None:
        if not told and (where := _where(directory, name)):
            told = True
            say(f"metrics go to {name}: {where}")
        time.sleep(_LOOK)
    if process is not None and process.returncode:
        say(f"{name} gets nothing more of this run: {_last_words(directory, process.returncode)}; {later}")


def _start(directory: RunDirectory, name: TrackerName) -> subprocess.Popen[bytes] | None:
    """None where one that an earlier controller has begun is at work."""
    try:
        with _alone(directory, name):
            pass
    except UsageError:
        return None
    log = os.open(directory.path / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "clusterctl", "track", directory.run, "--to", name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=Path(__file__).parents[2],  # -m looks there first
            env={**os.environ, HOME_VARIABLE: str(directory.path.resolve().parents[1])},
            start_new_session=True,
        )
    finally:
        os.close(log)


def _where(directory: RunDirectory, name: TrackerName) -> str:
    with suppress(ClusterctlError, OSError):
        kept = directory.find(_kept(name), Sent)
        return kept.where if kept is not None else ""
    return ""


def _last_words(directory: RunDirectory, code: int) -> str:
    if code == -_ALARM:
        return f"it has not answered for {_PATIENCE} s"
    with suppress(OSError):
        lines = (directory.path / LOG).read_text(errors="replace").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        if errors:
            return errors[-1]
    return f"its process has ended with {code}; {directory.path / LOG} has what it said"


def _kept(name: TrackerName) -> str:
    return f"track-{name}.json"


@contextmanager
def _alone(directory: RunDirectory, name: TrackerName) -> Iterator[None]:
    """While nobody else sends this run there. Raises UsageError."""
    path = directory.path / f"track-{name}.lock"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process sends run {directory.run} to {name} already",
                hint=f"{directory.path / LOG} has what it says",
            ) from None
        yield

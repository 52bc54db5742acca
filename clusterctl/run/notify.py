"""The end of a run as a desktop shows it, by `notify-send`: once, bounded in time, without a say in how it
ended."""

from __future__ import annotations

import html
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from clusterctl.errors import ClusterctlError
from clusterctl.plan.model import LaunchPlan
from clusterctl.report.harmless import harmless
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory

PROGRAM = "notify-send"
_MARK = "notified"
_TIMEOUT = 5.0
_LONGEST = 300


def missing(environ: Mapping[str, str] = os.environ) -> str:
    """Why no desktop can be told from here; empty where one can, as far as is known before."""
    if shutil.which(PROGRAM) is None:
        return f"--notify desktop shows nothing: there is no {PROGRAM} here (apt install libnotify-bin)"
    bus = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") / "bus"
    if not environ.get("DBUS_SESSION_BUS_ADDRESS") and not bus.exists():
        return "--notify desktop shows nothing: this session belongs to no desktop"
    return ""


def carry_out(
    plan: LaunchPlan,
    directory: RunDirectory,
    outcome: Outcome,
    say: Callable[[str], None],
    *,
    timeout: float = _TIMEOUT,
) -> None:
    """Show it where that was asked for, is possible and not done. ``say`` hears what went wrong."""
    if "desktop" not in plan.notify or missing() or not _first(directory):
        return
    options = ("--app-name=clusterctl", f"--urgency={_urgency(outcome)}")
    try:
        process = subprocess.Popen(
            [PROGRAM, *options, "--", *_texts(plan, outcome)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        say(f"{PROGRAM} could not be started: {error.strerror or error}")
        return
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout)
        say(f"{PROGRAM} did not end within {timeout:g} s and has been ended")
        return
    if code:
        say(f"{PROGRAM} ended with exit code {code}: nothing was shown")


def _first(directory: RunDirectory) -> bool:
    """Whether no other process has shown this end: who takes over a run concludes it, too."""
    with suppress(ClusterctlError):
        if directory.outcome() is None:
            return False
    try:
        os.close(os.open(directory.path / _MARK, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    except OSError:  # a full disk: twice is better than never
        return True
    return True


def _texts(plan: LaunchPlan, outcome: Outcome) -> tuple[str, str]:
    """Title and body, of which desktops read the latter as markup."""
    script = " ".join(plan.command[-1:]) or "the shipped workload"
    cause = outcome.cause.message if outcome.cause is not None else ""
    body = " ".join(harmless(f"{script} {cause}").split())[:_LONGEST]
    return harmless(f"run {plan.run}: {outcome.status}"), html.escape(body, quote=False)


def _urgency(outcome: Outcome) -> str:
    return "normal" if outcome.exit_code == 0 else "critical"

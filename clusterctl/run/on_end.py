"""The user's own command line for the end of a run: once, bounded in time, without a say in how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from clusterctl.errors import ClusterctlError
from clusterctl.plan.model import LaunchPlan
from clusterctl.report.harmless import harmless
from clusterctl.settings import RUN
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory

LOG = "on-end.log"
_PATIENCE = 10.0
"""A wait that is shorter is not told."""
_KILL = 5.0
_LOOK = 0.1
_LONGEST = 4096


def carry_out(
    plan: LaunchPlan,
    directory: RunDirectory,
    outcome: Outcome,
    say: Callable[[str], None],
    *,
    unwritten: str = "",
    timeout: float = RUN.on_end_timeout,
) -> None:
    """Have ``plan.on_end`` carried out, where there is one and nobody has begun it yet, and wait for it.

    ``say`` hears when it is late and when it failed. ``unwritten``: why the outcome is not in ``directory``;
    a run of which another process knows the outcome is left to that.
    """
    if not plan.on_end or not (unwritten or _is_kept(directory)):
        return
    log = directory.path / LOG
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except FileExistsError:  # which is how it is known to have been begun
        return
    except OSError:  # a full disk: the command is worth more than what it prints
        output = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        process = _begin(plan, directory, outcome, output)
    except OSError as error:
        say(f"--on-end could not be started: {error.strerror or error}")
        return
    finally:
        os.close(output)
    code = _await(process, say, timeout)
    if code is None:
        say(f"--on-end was not over after {timeout:g} s and has been ended; its output: {log}")
    elif code:
        ended = f"with exit code {code}" if code > 0 else f"by signal {-code}"
        say(f"--on-end ended {ended}, which changes nothing of the run; its output: {log}")


def _is_kept(directory: RunDirectory) -> bool:
    with suppress(ClusterctlError):
        return directory.outcome() is not None
    return True  # it is there, and cannot be read


def _begin(
    plan: LaunchPlan, directory: RunDirectory, outcome: Outcome, output: int
) -> subprocess.Popen[bytes]:
    cause = " ".join(harmless(outcome.cause.message).split()) if outcome.cause is not None else ""
    where = outcome.cause.host if outcome.cause is not None else ""
    about = {
        "CLUSTERCTL_RUN": plan.run,
        "CLUSTERCTL_STATUS": outcome.status,
        "CLUSTERCTL_EXIT_CODE": str(outcome.exit_code),
        "CLUSTERCTL_OUTCOME": str(directory.path / "outcome.json"),
        "CLUSTERCTL_CAUSE": (f"{where}: {cause}" if where else cause)[:_LONGEST],
    }
    return subprocess.Popen(
        ["/bin/sh", "-c", plan.on_end],
        cwd=plan.launched_in if Path(plan.launched_in).is_dir() else "/",
        env={**os.environ, **about},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def _await(process: subprocess.Popen[bytes], say: Callable[[str], None], timeout: float) -> int | None:
    """Its exit code; None when it had to be ended."""
    begun = time.monotonic()
    with suppress(subprocess.TimeoutExpired):
        return process.wait(min(_PATIENCE, timeout))
    if timeout > _PATIENCE:
        say(f"waiting for --on-end, {timeout:g} s at most")
        with suppress(subprocess.TimeoutExpired):
            return process.wait(timeout - (time.monotonic() - begun))
    os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + _KILL
    while time.monotonic() < deadline and not _has_ended(process.pid):
        time.sleep(_LOOK)
    os.killpg(process.pid, signal.SIGKILL)  # what it has started, too
    with suppress(subprocess.TimeoutExpired):
        process.wait(_KILL)
    return None


def _has_ended(pid: int) -> bool:
    """Without taking its exit code: as long as that waits, its number and its group's are nobody else's."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

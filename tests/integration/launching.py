"""Starts `clusterctl launch` as a user would, and reads what it left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clusterctl.sandbox import Sandbox

PATIENCE = 500.0  # below the time-out of a test, so that what was waited for is told


class Launch:
    """One launch. ``lines`` is what it printed; ``outcome`` and ``run`` are read from its run directory."""

    def __init__(self, process: subprocess.Popen[str], home: Path, seen: set[Path]) -> None:
        self.process = process
        self._runs = home / "runs"
        self._seen = seen
        self.text = ""

    @property
    def run(self) -> Path:
        new = sorted(set(self._runs.iterdir()) - self._seen)
        assert new, "no run directory yet"
        return new[0]

    def events(self) -> list[dict[str, Any]]:
        try:
            text = (self.run / "events.jsonl").read_text()
        except (FileNotFoundError, AssertionError):
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Until the events satisfy ``wanted``."""
        until = time.monotonic() + PATIENCE
        while not wanted(self.events()):
            assert time.monotonic() < until, self.events()
            assert self.process.poll() is None, self.finish().text
            time.sleep(0.05)

    def wait_for_ranks(self, count: int) -> None:
        self.wait_for(lambda events: sum(e["event"] == "rank-start" for e in events) == count)

    def wait_for_logs(self, text: str, count: int) -> None:
        """Until the logs of ``count`` ranks here hold ``text``."""

        def told(_: object) -> bool:
            logs = self.run.glob("logs/*/rank-*.log") if self.events() else ()
            return sum(text in log.read_text(errors="replace") for log in logs) == count

        self.wait_for(told)

    def signal(self, number: int = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def finish(self) -> Launch:
        self.text, _ = self.process.communicate(timeout=PATIENCE)
        return self

    @property
    def code(self) -> int:
        return self.process.returncode

    @property
    def outcome(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run / "outcome.json").read_text())
        return found

    def log(self, host: str, rank: int) -> str:
        return (self.run / "logs" / host / f"rank-{rank}.log").read_text(errors="replace")


def start(
    sandbox: Sandbox,
    *words: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    stdin: int = subprocess.DEVNULL,
) -> Launch:
    """`clusterctl launch OPTIONS WORDS` on the hosts of ``sandbox``, in the directory ``cwd``."""
    home = Path(os.environ["CLUSTERCTL_HOME"])
    (home / "runs").mkdir(exist_ok=True)
    seen = set((home / "runs").iterdir())
    argv = [sys.executable, "-m", "clusterctl", "launch", "-H", str(sandbox.hostfile), *options, *words]
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return Launch(process, home, seen)


def launch(sandbox: Sandbox, *words: str, cwd: Path, **more: Any) -> Launch:
    """As `start`, to the end."""
    return start(sandbox, *words, cwd=cwd, **more).finish()


@contextmanager
def nothing_left(box: Sandbox) -> Iterator[None]:
    """Every host ends with no more processes than it began with; those of an earlier test may end."""
    before = {host.name: set(host.pids()) for host in box.hosts}
    yield
    limit = time.monotonic() + 120
    while new := {host.name: left for host in box.hosts if (left := set(host.pids()) - before[host.name])}:
        assert time.monotonic() < limit, new
        time.sleep(0.1)


def leftovers(sandbox: Sandbox, run: str) -> list[str]:
    """Command lines of every process on any host that bears the mark of ``run`` or lies in its directory."""
    found = []
    for host in sandbox.hosts:
        text = host.run([sys.executable, "-S", "-c", _FIND, run]).stdout
        found += [f"{host.name}: {line}" for line in str(text).splitlines()]
    return found


_FIND = """
import os, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        command = open(f"/proc/{pid}/cmdline", "rb").read().replace(b"\\0", b" ").decode(errors="replace")
        environ = open(f"/proc/{pid}/environ", "rb").read().split(b"\\0")
    except PermissionError:  # a host of an ordinary user's: who asks is root of another namespace
        environ = []
    except OSError:
        continue
    mark = f"CLUSTERCTL_RUN={sys.argv[1]}/".encode()
    marked = any(part.startswith(mark) for part in environ)
    if (marked or sys.argv[1] in command) and int(pid) != os.getpid() and command:
        print(pid, command)
"""

"""One node of a run, with real agent, waiters and processes; the test plays relay and controller."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from clusterctl.ask.bundle import read_node_files
from clusterctl.messages import events
from clusterctl.node.run import agent_process
from clusterctl.node.run.directory import LEASE, STOP, NodeDirectory, boottime
from clusterctl.node.run.installation import install
from clusterctl.node.shared.processes import is_running, kill_all, run_processes
from clusterctl.run.relay_bundle import RELAY, RELAY_FILES

PATIENCE = 60.0
Make = Callable[..., "NodeRun"]
# Without the start-up of a virtual environment, of which these tests need nothing.
PYTHON = str(getattr(sys, "_base_executable", sys.executable))
SECRET = "sesame-open"
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(cast(Any, events.AgentEvent))
Event = TypeVar("Event")

# As engines do: one session for each rank; the first failure ends the others, one after another.
ENGINE = """
import os, signal, subprocess, sys, time
waiter, ranks = sys.argv[1:]
start = lambda rank: subprocess.Popen(
    [sys.executable, "-u", waiter, "r"], env=dict(os.environ, RANK=rank), start_new_session=True)
going = [start(rank) for rank in ranks.split(",")]
while going:
    for each in list(going):
        if each.poll() is not None:
            going.remove(each)
            if each.returncode:
                for other in going:
                    os.killpg(other.pid, signal.SIGTERM)
                    other.wait()
                sys.exit(1)
    time.sleep(0.02)
"""
# Like `deepspeed --no_ssh`: what starts the ranks is not the process that the agent has started.
NESTED = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', *sys.argv[1:]]))"


def wait_until(true: Callable[[], object], what: object = "") -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.02)


@contextlib.contextmanager
def sleeping(place: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """`sleep 4321` in a session of its own, with no variables but these."""
    with subprocess.Popen(["sleep", "4321"], cwd=place, env=env, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run_of(folder: Path) -> str:
    """The run id of a test's own folder: by its name alone, the same test of another session would have the
    same one, and end these processes."""
    return f"r-{hashlib.sha256(bytes(folder.resolve())).hexdigest()[:16]}"


def whole_lines(log: str) -> str:
    """Without what an unbuffered Python has still to end: it writes text and line end one after the other."""
    return log[: log.rfind("\n") + 1]


class NodeRun:
    """Lay out with `install`, start with `start`. ``script`` is what every rank runs."""

    def __init__(
        self,
        folder: Path,
        script: str | Sequence[str] = "",
        *,
        ranks: Sequence[int] = (0,),
        nested: bool = False,
        python: str = PYTHON,
        **changes: Any,
    ) -> None:
        self.folder = folder
        self.root = folder / "node" / "r" / "0"
        self.cwd = folder / "cwd"
        self.cwd.mkdir(exist_ok=True)
        self.directory = NodeDirectory(str(self.root))
        self.tag = f"{run_of(folder)}/0"
        engine = [ENGINE, "{run_dir}/code/rank.py", ",".join(map(str, ranks))]
        command = [python, "-I", "-S", "-u", "-c", script] if isinstance(script, str) else list(script)
        self.job: dict[str, Any] = {
            "run": run_of(folder),
            "owner": "ann",
            "node_rank": 0,
            "slots": list(range(len(ranks))),
            "ranks": list(ranks),
            "python": python,
            "command": command,
            "arguments": [],
            "pass_local_rank": False,
            "env": {"SECRET": SECRET, "FOLDER": str(folder)},
            "removed": [],
            "engine": [python, "-c", *([NESTED] if nested else []), *engine],
            "enter": "",
            "files": {},
            "cwd": str(self.cwd),
            "subdirectory": "",
            "digest": "",
            "failure_grace": 5.0,
            "lock_dir": str(folder),
            "log_head": 0,
            "log_limit": 0,
            **changes,
        }
        self.agent = agent_process.AgentProcess(self.directory, self.tag)
        self.identity: Mapping[str, Any] = {}

    def start(self, lease: float = 3600.0) -> NodeRun:
        sources = read_node_files((RELAY, "shared.wire", *RELAY_FILES))
        until = {"until": boottime() + lease}
        self.root.parent.mkdir(parents=True)
        self.agent.start(install(self.directory, self.job, sources, None, until))
        self.identity = cast(Any, self.agent)._identity
        return self

    def events(self) -> list[Any]:
        try:
            lines = (self.root / "events.jsonl").read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [_decoder.decode(line) for line in lines if line.endswith(b"\n")]

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events() if isinstance(event, kind)]

    def wait_for(self, kind: type[Event], count: int = 1) -> list[Event]:
        wait_until(lambda: len(self.told(kind)) >= count, lambda: (self.events(), self.agent_log()))
        return self.told(kind)

    def wait_end(self) -> Any:
        return self.wait_for(events.Ended)[0]

    def agent_log(self) -> str:
        with contextlib.suppress(OSError):
            return (self.root / "logs/agent.log").read_text()
        return ""

    def log(self, rank: int = 0) -> str:
        try:
            return (self.root / f"logs/rank-{rank}.log").read_text()
        except FileNotFoundError:
            return ""

    def wait_for_log(self, text: str, *ranks: int) -> None:
        def told(rank: int) -> bool:
            return text in whole_lines(self.log(rank))

        for rank in ranks or (0,):
            wait_until(partial(told, rank), lambda: (self.events(), self.agent_log()))

    def stop(self, grace: float) -> None:
        self.directory.overwrite(STOP, {"grace": grace, "reason": "the test wants it"})

    def renew(self, seconds: float) -> None:
        self.directory.overwrite(LEASE, {"until": boottime() + seconds})

    def processes(self) -> list[int]:
        """What lives of the run, the agent aside."""
        return list(run_processes(self.tag))

    def wait_gone(self) -> None:
        wait_until(lambda: not self.processes() and not self.agent_lives(), self.processes)

    def agent_lives(self) -> bool:
        self.agent.is_alive()  # reaps it
        return bool(is_running(self.identity["pid"], self.identity["started"]))

    def close(self) -> None:
        if self.identity and self.agent_lives():
            os.kill(self.identity["pid"], signal.SIGKILL)
        kill_all(self.tag)


def other_python() -> str | None:
    """The oldest Python that nodes may have, where this machine has one."""
    found = shutil.which("python3.8")
    if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
        return found
    candidates = sorted(Path(PYTHON).parents[2].glob("3.8.*/bin/python3.8"))
    return str(candidates[0]) if candidates else None


@contextlib.contextmanager
def node_runs(place: Path) -> Iterator[Make]:
    """Makes runs below ``place``, each ended with the block."""
    with contextlib.ExitStack() as made:

        def make(*arguments: Any, **more: Any) -> NodeRun:
            return made.enter_context(contextlib.closing(NodeRun(place, *arguments, **more)))

        yield make

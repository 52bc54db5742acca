"""Run directories on the controller: one folder a run, everything in it private to the user."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.plan.model import LaunchPlan, Setting
from clusterctl.plan.variables import shown
from clusterctl.settings import HOME_VARIABLE
from clusterctl.store.outcome import Outcome

_T = TypeVar("_T")


class _Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The process that supervises a run."""

    pid: int
    started: int | None
    host: str = ""
    boot: str = ""


_LOG_NAME = re.compile(r"(rank-\d+|agent)(\.attempt-\d+)?\.log")


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """`$CLUSTERCTL_HOME`, by default `~/.clusterctl`."""
    return Path(environ.get(HOME_VARIABLE) or Path.home() / ".clusterctl")


def new_run_id() -> str:
    """Sorts by start time; the tail keeps two starts in one second apart."""
    return time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)


class RunDirectory:
    """One run: ``plan.json``, ``events.jsonl``, ``outcome.json``, ``findings.json``, ``logs/<host>/...``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path.name

    @classmethod
    def create(cls, plan: LaunchPlan) -> RunDirectory:
        """Make the folder and save the plan, with secret values hidden."""
        directory = cls(home() / "runs" / plan.run)
        directory.path.mkdir(mode=0o700, parents=True)
        directory.logs.mkdir(mode=0o700)
        for node in plan.nodes:
            directory.host_logs(node.host).mkdir(mode=0o700)
        nodes = tuple(
            msgspec.structs.replace(
                node, settings=tuple(Setting(s.name, shown(s), s.origin) for s in node.settings)
            )
            for node in plan.nodes
        )
        directory.write("plan.json", msgspec.structs.replace(plan, nodes=nodes))
        return directory

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def host_logs(self, host: str) -> Path:
        return self.logs / host.replace("/", "_")

    def write(self, name: str, value: object) -> None:
        """Write one JSON file so that a reader sees all of it or none."""
        partial = self.path / f".{name}.partial"
        text = msgspec.json.format(msgspec.json.encode(value), indent=2)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.write(text + b"\n")
        partial.replace(self.path / name)

    def append_event(self, event: Mapping[str, Any]) -> None:
        line = json.dumps(event) + "\n"
        with os.fdopen(
            os.open(self.path / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w"
        ) as stream:
            stream.write(line)

    def append_log(self, host: str, name: str, offset: int, data: bytes) -> None:
        """Put bytes at their offset: a piece that arrives twice changes nothing.

        ``name`` comes from a node, so only the names of logs are taken; ValueError for any other.
        """
        if not _LOG_NAME.fullmatch(name):
            raise ValueError(f"{host}: {name!r} is no name of a log")
        path = self.host_logs(host) / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as stream:
            stream.seek(offset)
            stream.write(data)

    def log_fingerprint(self, host: str, name: str) -> dict[str, Any] | None:
        """Size in bytes and SHA-256 of a log as it lies here; None where there is none."""
        found, size = hashlib.sha256(), 0
        try:
            with (self.host_logs(host) / name).open("rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    found.update(block)
                    size += len(block)
        except FileNotFoundError:
            return None
        return {"size": size, "sha256": found.hexdigest()}

    def offsets(self, host: str) -> dict[str, int]:
        """How much of each log has arrived, by file name: where a new relay goes on."""
        return {path.name: path.stat().st_size for path in self.host_logs(host).iterdir()}

    def plan(self) -> LaunchPlan:
        """Raises ClusterctlError where the file is damaged or another version's."""
        return self._read("plan.json", LaunchPlan)

    def started(self) -> float:
        """When the run was made, in seconds of the wall clock."""
        return (self.path / "plan.json").stat().st_mtime

    def outcome(self) -> Outcome | None:
        """None while the run goes on, and when its controller died before it could say. Raises as `plan`."""
        try:
            return self._read("outcome.json", Outcome)
        except FileNotFoundError:
            return None

    def _read(self, name: str, kind: type[_T]) -> _T:
        path = self.path / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except msgspec.DecodeError as error:
            raise ClusterctlError(
                f"{path} cannot be read: {error}",
                hint="it is damaged or of another version of clusterctl; the logs beside it are plain text",
            ) from error

    def events(self) -> Iterator[dict[str, Any]]:
        """Events so far, oldest first; a last line still being written is left out."""
        try:
            text = (self.path / "events.jsonl").read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        for line in text.splitlines(keepends=True):
            # A controller that died while it wrote leaves half a line; its successor's event is glued to it.
            with contextlib.suppress(ValueError):
                if line.endswith("\n"):
                    yield json.loads(line)

    def recorded_events(self) -> dict[int, int]:
        """Node rank -> how far that node's own ``events.jsonl`` has been copied here, in bytes."""
        found: dict[int, int] = {}
        for event in self.events():
            if "offset" in event:
                found[event["node_rank"]] = event["offset"]
        return found

    def claim(self) -> None:
        """Say which process supervises this run, and on which machine: home directories may be shared."""
        pid = os.getpid()
        self.write(
            "supervisor.json",
            _Claim(pid=pid, started=process_start(pid), host=socket.gethostname(), boot=boot_id()),
        )

    def supervised(self) -> bool:
        """Whether the process that supervises this run is alive; taken for alive on another machine."""
        claim = self._claim()
        if claim is None or self.controller():
            return claim is not None
        started = process_start(claim.pid)
        return claim.boot in ("", boot_id()) and started is not None and started == claim.started

    def controller(self) -> str:
        """The other machine that supervises this run, or supervised it to its end; empty when it is this."""
        claim = self._claim()
        here = claim is None or claim.boot == boot_id() or claim.host in ("", socket.gethostname())
        return "" if claim is None or here else claim.host

    def _claim(self) -> _Claim | None:
        try:
            return msgspec.json.decode((self.path / "supervisor.json").read_bytes(), type=_Claim)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def ask_to_stop(self, *, now: bool) -> None:
        """Leave a note for the supervising process."""
        self.write("stop.json", {"now": now})

    def stop_asked(self) -> bool | None:
        """None: nobody asked. False: stop with the usual grace. True: stop now."""
        try:
            return bool(json.loads((self.path / "stop.json").read_text())["now"])
        except FileNotFoundError:
            return None


def boot_id() -> str:
    """Names this machine from its last boot to its next; empty where the system tells no such name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return ""


def process_start(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; with the pid it names one process for good.

    None when it is no more; a zombie is no more.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def all_runs() -> tuple[RunDirectory, ...]:
    """Oldest first."""
    folder = home() / "runs"
    if not folder.is_dir():
        return ()
    return tuple(RunDirectory(path) for path in sorted(folder.iterdir()) if (path / "plan.json").is_file())


def find_run(name: str | None) -> RunDirectory:
    """The run named, by id or by a beginning of it that fits one run only; the newest when none is named."""
    runs = all_runs()
    if not runs:
        raise UsageError(f"no runs in {home() / 'runs'}", hint="start one: clusterctl launch --nodes 2")
    if name is None:
        return runs[-1]
    found = [run for run in runs if run.run.startswith(name)]
    exact = [run for run in found if run.run == name]
    if exact or len(found) == 1:
        return (exact or found)[0]
    if found:
        raise UsageError(
            f"`{name}` fits {len(found)} runs: {', '.join(run.run for run in found[-5:])}",
            hint="write more of its id",
        )
    raise UsageError(f"no run `{name}`; the newest is {runs[-1].run}", hint="clusterctl runs")

"""Run directories on the controller: one folder a run, everything in it private to the user."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from clusterctl.errors import ClusterctlError, UsageError, in_words
from clusterctl.plan.model import LaunchPlan, Setting, attempt_suffix
from clusterctl.plan.variables import shown
from clusterctl.settings import HOME_VARIABLE
from clusterctl.store import claims, event_lines, files, log_files
from clusterctl.store.claims import Claim, Verb
from clusterctl.store.home import home, make_home
from clusterctl.store.log_files import WHOLE, Cut
from clusterctl.store.outcome import Attempt, Outcome

START_ONE = "clusterctl init HOST... once, then clusterctl launch train.py"
"""For who has no runs, and perhaps no hosts either."""
_T = TypeVar("_T")

_PLAN_NAME = re.compile(r"plan\.attempt-(\d+)\.json")
_LOG_NAME = re.compile(
    r"(rank-\d+|agent)(\.attempt-\d+)?\.log|metrics-\d+(\.attempt-\d+)?\.jsonl"
    r"|(samples|times)(\.attempt-\d+)?\.ndjson|flight-\d+(\.attempt-\d+)?\.pickle"
)


class RunDirectory:
    """One run: ``plan.json``, ``events.jsonl``, ``outcome.json``, ``findings.json``, ``logs/<host>/...``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path.name

    @classmethod
    def create(cls, plan: LaunchPlan) -> RunDirectory:
        """Make the folder and save the plan, with secret values hidden.

        Raises ClusterctlError where `home` cannot hold it.
        """
        directory = cls(home() / "runs" / plan.run)
        make_home()
        with files.explained(home(), HOME_VARIABLE):
            for folder in (directory.path, directory.logs, *map(directory.host_logs, _hosts(plan))):
                folder.mkdir(mode=0o700)
            directory.write(_plan_name(plan.attempt), _without_secrets(plan))
        return directory

    def begin_attempt(self, plan: LaunchPlan) -> None:
        """Save the plan of another attempt, which is the run's from here on. Raises OSError."""
        for folder in map(self.host_logs, _hosts(plan)):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.write(_plan_name(plan.attempt), _without_secrets(plan))

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def _events(self) -> Path:
        return self.path / "events.jsonl"

    def host_logs(self, host: str) -> Path:
        return self.logs / host.replace("/", "_")

    def write(self, name: str, value: object) -> None:
        """Write one JSON file so that a reader sees all of it or none."""
        files.write(self.path / name, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")

    def write_bytes(self, name: str, content: bytes) -> None:
        """`write`, of what is not JSON. Raises OSError."""
        files.write(self.path / name, content)

    def keep(self, name: str, value: object) -> None:
        """`write`, into a folder that may not be there yet."""
        (self.path / name).parent.mkdir(mode=0o700, exist_ok=True, parents=True)
        self.write(name, value)

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Raises OSError."""
        event_lines.append(self._events, event)

    def append_log(self, host: str, name: str, offset: int, data: bytes, cut: Cut = WHOLE) -> None:
        """Put bytes at their offset: a piece that arrives twice changes nothing.

        ``name`` comes from a node, so only the names of logs are taken; ValueError for any other.
        """
        path = self._log(host, name)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as stream:
            stream.seek(cut.place(offset))
            stream.write(data)

    def printed(self, host: str) -> float | None:
        """When the last output of a host's ranks came here; None where none has."""
        found = [path.stat() for path in self.host_logs(host).glob("rank-*.log")]
        return max((each.st_mtime for each in found if each.st_size), default=None)

    def cut_log(self, host: str, name: str, before: Cut, cut: Cut, on_block: Callable[[], None]) -> None:
        """Take the bytes that ``cut`` names out of a log, and say so in it. Raises OSError."""
        log_files.cut_out(self._log(host, name), before, cut, on_block)

    def log_cut(self, host: str, name: str, head: int) -> Cut:
        """What was taken out of a log that keeps ``head`` bytes of its beginning. Raises OSError."""
        return log_files.cut_of(self._log(host, name), head)

    def log_fingerprint(
        self, host: str, name: str, on_block: Callable[[], None] = lambda: None, cut: Cut = WHOLE
    ) -> dict[str, Any] | None:
        """Size in bytes and SHA-256 of a log as it lies here; None where there is none. ``on_block`` is
        called as long as the disk goes on answering."""
        path = self._log(host, name)
        if not files.is_regular(path):
            return None
        size, digest = log_files.fingerprint(path, cut, on_block)
        return {"size": size, "sha256": digest, "head": cut.head, "resume": cut.resume}

    def _log(self, host: str, name: str) -> Path:
        if not _LOG_NAME.fullmatch(name):
            raise ValueError(f"{host}: {name!r} is not the name of a log")
        return self.host_logs(host) / name

    def offsets(self, host: str) -> dict[str, int]:
        """How long the file of each log is, by its name."""
        found = {}
        for path in self.host_logs(host).iterdir():
            if _LOG_NAME.fullmatch(path.name) and files.is_regular(path):
                found[path.name] = path.stat().st_size
        return found

    def plan(self, attempt: int | None = None) -> LaunchPlan:
        """That of the newest attempt, or of the one given. Raises ClusterctlError where the file is damaged
        or another version's."""
        return self._read(_plan_name(attempt or self.newest_attempt()), LaunchPlan)

    def plan_of_all_attempts(self) -> LaunchPlan:
        """The newest, and in it the parts of those hosts, too, that only earlier attempts used. Raises as
        `plan`."""
        newest = self.plan()
        nodes = {node.host: node for node in newest.nodes}
        for attempt in range(newest.attempt - 1, 0, -1):
            for node in self.plan(attempt).nodes:
                nodes.setdefault(node.host, node)
        return msgspec.structs.replace(newest, nodes=tuple(nodes.values()))

    def newest_attempt(self) -> int:
        """Its number, from 1."""
        found = (_PLAN_NAME.fullmatch(path.name) for path in self.path.iterdir())
        return max((int(match[1]) for match in found if match), default=1)

    def begun_attempt(self) -> int:
        """The newest that hosts may know of: its controller can have died between the plan of another and
        that one's start."""
        told = (event.get("attempt") for event in self.events() if event["event"] == "attempt")
        return max((number for number in told if isinstance(number, int)), default=1)

    def started(self) -> float:
        """When the run was made, in seconds of the wall clock."""
        return (self.path / "plan.json").stat().st_mtime

    def outcome(self) -> Outcome | None:
        """None while the run goes on, and when its controller died before it could say. Raises as `plan`."""
        return self.find("outcome.json", Outcome)

    def _read(self, name: str, kind: type[_T]) -> _T:
        found = self.find(name, kind)
        if found is None:
            raise ClusterctlError(f"{self.path / name} is gone", hint="clusterctl runs")
        return found

    def find(self, name: str, kind: type[_T]) -> _T | None:
        """What a JSON file holds; None where there is none. Raises as `plan`."""
        path = self.path / name
        try:
            content = files.read(path)
            return None if content is None else msgspec.json.decode(content, type=kind)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if isinstance(error, OSError):
                raise ClusterctlError(f"{path} cannot be read: {error.strerror}") from error
            raise ClusterctlError(
                f"{path} cannot be read: {in_words(error)}",
                hint="it is damaged or of another version of clusterctl; the logs beside it are plain text",
            ) from error

    def events(self) -> Iterator[dict[str, Any]]:
        """Events so far, oldest first; a last line still being written is left out."""
        return event_lines.read(self._events)

    def events_from(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """Whole lines of ``events.jsonl`` from ``offset`` on, and where the next one begins."""
        return event_lines.read_from(self._events, offset)

    def attempt_events(self) -> list[dict[str, Any]]:
        """Those of the newest attempt."""
        found: list[dict[str, Any]] = []
        for event in self.events():
            if event["event"] == "attempt":
                found.clear()
            found.append(event)
        return found

    def ended_attempts(self) -> tuple[Attempt, ...]:
        """Those that another was to follow, oldest first."""
        told = (event.get("ended") for event in self.events() if event["event"] == "attempt-end")
        found = []
        for each in told:
            with contextlib.suppress(msgspec.ValidationError):
                found.append(msgspec.convert(each, Attempt))
        return tuple(found)

    def looks(self) -> int:
        """How many looks at the ranks of the newest attempt are kept."""
        kept = self.path.glob(f"hang{attempt_suffix(self.newest_attempt())}/look-*")
        numbers = (each.name.partition("-")[2] for each in kept)
        return max((int(number) for number in numbers if number.isdecimal()), default=0)

    def recorded_events(self) -> dict[int, int]:
        """Node rank -> how far that node's own ``events.jsonl`` has been copied here, in bytes, of the newest
        attempt."""
        found: dict[int, int] = {}
        for event in self.attempt_events():
            if "offset" in event and "node_rank" in event:
                found[event["node_rank"]] = event["offset"]
        return found

    def claim(self, verb: Verb = "launch", *, pid: int | None = None, lacks: tuple[str, ...] = ()) -> None:
        """Say that this process supervises the run, or the process ``pid``, which is about to."""
        self.write("supervisor.json", claims.own_claim(verb, pid, lacks=lacks))

    def take_claim(
        self, verb: Verb, *, instead_of: Claim | None = None, lacks: tuple[str, ...] = ()
    ) -> Claim | None:
        """Become the one supervisor: None. Where a living process is it already: that one's claim, and
        nothing has changed, unless it is ``instead_of``, which the caller knows to do nothing any more.
        """
        with claims.locked(self.path / "supervisor.lock"):
            held = self.supervisor()
            if held is not None and held != instead_of:
                return held
            self.claim(verb, lacks=lacks)
        return None

    def supervisor(self) -> Claim | None:
        """The living process that supervises this run; one on another machine is taken for alive."""
        claim = self.held()
        return claim if claim is not None and claims.is_alive(claim) else None

    def held(self) -> Claim | None:
        """The process that supervises this run, or did last, dead or alive."""
        with contextlib.suppress(ClusterctlError):
            return self.find("supervisor.json", Claim)
        return None

    def show_life(self) -> None:
        """The supervising process was at work now. Raises OSError."""
        os.utime(self.path / "supervisor.json")

    def alone_since(self) -> float | None:
        """When the process that is to supervise the run was last at work, in seconds of the wall clock, where
        it is dead or stands still."""
        held = self.supervisor()
        if held is not None and not claims.is_suspended(held):
            return None
        with contextlib.suppress(OSError):
            return (self.path / "supervisor.json").stat().st_mtime
        return self.started()

    def supervised(self) -> bool:
        return self.supervisor() is not None

    def running(self) -> bool:
        """Whether it goes on: supervised, and without an outcome."""
        return not (self.path / "outcome.json").exists() and self.supervised()

    def controller(self) -> str:
        """The other machine that supervises this run, or supervised it to its end; empty when it is this."""
        claim = self.held()
        return "" if claim is None or claims.is_here(claim) else claim.host

    def note_pulled(self, host: str) -> None:
        """All that the run wrote on ``host`` is here now."""
        self.write("pulled.json", sorted({*self.pulled(), host}))

    def pulled(self) -> frozenset[str]:
        """Hosts from which all that the run wrote was brought back."""
        with contextlib.suppress(ClusterctlError):
            return frozenset(self.find("pulled.json", list[str]) or ())
        return frozenset()

    def size(self) -> int:
        """Bytes of the whole folder, in which others may be at work."""
        found = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    found += (Path(folder) / name).lstat().st_size
        return found

    def remove(self) -> None:
        """All of it, at once for every reader. Raises OSError."""
        doomed = self.path.with_name(f".removed-{self.run}")
        self.path.rename(doomed)
        shutil.rmtree(doomed)

    def ask_to_stop(self, *, now: bool) -> None:
        """Leave a note for the supervising process."""
        self.write("stop.json", {"now": now})

    def stop_asked(self) -> bool | None:
        """None: nobody asked. False: stop with the usual grace. True: stop now."""
        note = None
        with contextlib.suppress(ClusterctlError):
            note = self.find("stop.json", dict[str, bool])
        return None if note is None else note.get("now", False)


def _plan_name(attempt: int) -> str:
    return f"plan{attempt_suffix(attempt)}.json"


def _without_secrets(plan: LaunchPlan) -> LaunchPlan:
    nodes = tuple(
        msgspec.structs.replace(
            node, settings=tuple(Setting(s.name, shown(s), s.origin) for s in node.settings)
        )
        for node in plan.nodes
    )
    return msgspec.structs.replace(plan, nodes=nodes)


def _hosts(plan: LaunchPlan) -> list[str]:
    return [node.host for node in plan.nodes]


def all_runs() -> tuple[RunDirectory, ...]:
    """Oldest first. Raises ClusterctlError where `home` cannot be read."""
    with files.explained(home(), HOME_VARIABLE):
        try:
            names = sorted(path.name for path in (home() / "runs").iterdir())
        except FileNotFoundError:
            return ()
    found = (RunDirectory(home() / "runs" / name) for name in names if not name.startswith("."))
    return tuple(run for run in found if files.is_regular(run.path / "plan.json"))


def find_run(name: str | None, *, sole: bool = False) -> RunDirectory:
    """The run named, by id or by a beginning of it that fits one run only; when none is named, the newest
    that goes on, else the newest. ``sole``: of several that go on one has to be named."""
    runs = all_runs()
    if not runs:
        raise UsageError(f"no runs in {home() / 'runs'}", hint=START_ONE)
    if name is None:
        going = (run for run in reversed(runs) if run.running())
        newest = next(going, runs[-1])
        if sole and (other := next(going, None)):
            raise UsageError(f"more than one run goes on: {other.run}, {newest.run}", hint="name one of them")
        return newest
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

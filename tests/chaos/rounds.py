"""One round: what a user does and sees in it, and how its launch may end."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from clusterctl.store.outcome import Outcome
from tests.chaos.hosts import Host, World
from tests.chaos.loaded import Loaded
from tests.chaos.processes import Process, find, processes_of

CLUSTERCTL = (sys.executable, "-m", "clusterctl")
RETURNS = 900.0
"""Seconds after which a launch hangs. Far from what any round takes: it judges no speed."""
STARTS = 600.0
SETTLES = 20.0
LEASE = 150.0
ENDLESS = 10**6


class Broken(Exception):
    """An invariant does not hold."""


@dataclass(frozen=True)
class Expected:
    """How a launch may end. Empty ``kinds``: without a cause. ``settles``: seconds until nothing is left.

    ``blames`` tells whether the cause names a host, where ``host`` does not say which.
    ``earlier`` tells how each attempt before the last may have ended; None: that depends on the moment.
    """

    codes: tuple[int, ...]
    kinds: tuple[str, ...] = ()
    host: str = ""
    rank: int | None = None
    settles: float = SETTLES
    outcome: bool = True
    logs: bool = True
    earlier: tuple[Expected, ...] | None = ()
    blames: bool | None = None


SUCCESS = Expected((0,))


def steps(seconds: float) -> int:
    """At least so long does a rank step."""
    return int(seconds / 0.05)


@dataclass
class Round:
    world: World
    rng: random.Random
    real: bool
    """With the real torchrun and a DDP script; else with the stand-in and a rank without torch."""
    slots: int
    engines: list[str] = field(default_factory=list)
    """Of each launch."""
    process: subprocess.Popen[bytes] | None = None
    """What shows the run: its launch, or `attach`."""
    detached: bool = False
    screen: Path = Path()
    read: bool = True
    notes: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """What each `clusterctl stop` printed."""
    variables: dict[str, str] = field(default_factory=dict)
    """For controller/sitecustomize.py."""

    # What a user does

    def launch(
        self, steps: int = ENDLESS, *, size: int = 20, who: int = -1, what: str = "", at: int = 0,
        slow: float = 0.0, options: Iterable[str] = (), unread: bool = False, drawn: bool = True,
        within: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """``drawn``: the round draws its engine. ``within``: a command that runs launch, such as prlimit."""
        # The hosts' disks are too small for the quick look, and the stand-in is no torch.
        argv = [*within, *CLUSTERCTL, "launch", "--force"]
        if not self.real:
            self.engines.append("stand-in")
            argv += ["--profile", str(self.world.profile)]
        elif drawn and self.rng.random() < 0.4:
            self.engines.append("deepspeed")
            argv += ["--engine", "deepspeed", "--no-local-rank"]
        else:
            self.engines.append("deepspeed" if "deepspeed" in options else "torchrun")
        argv += [*options, "ddp.py" if self.real else "cheap.py"]
        argv += [str(each) for each in (steps, size, who, what or "nothing", at, slow)]
        self.show(argv, unread=unread)

    def launch_detached(self, steps: int, *, options: Iterable[str] = (), size: int = 20) -> None:
        """Until every rank is up, and launch has returned."""
        self.launch(steps, options=["--detach", *options], size=size)
        if self.returns() != 0:
            raise Broken(f"launch --detach: {self.screen.read_text(errors='replace')[-600:]}")
        self.detached = True

    def attach(self) -> None:
        """From now on `attach` is what shows the run."""
        self.show([*CLUSTERCTL, "attach", self.directory.name])

    def show(self, argv: Sequence[str], *, unread: bool = False) -> None:
        self.screen = self.world.folder / "screen"
        self.read = not unread
        with self.screen.open("wb") as stream:
            self.process = subprocess.Popen(
                argv, cwd=self.world.project, env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if unread else stream, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Of the commands that a user types."""
        places = [str(Path(__file__).with_name("controller")), str(Path.cwd())]
        return self.world.environment() | self.variables | {"PYTHONPATH": ":".join(places)}

    def note(self, text: str) -> None:
        self.notes.append(text)

    @property
    def directory(self) -> Path:
        found = [each for each in (self.world.home / "runs").glob("[0-9]*") if each.is_dir()]
        if len(found) != 1:
            raise Broken(f"{len(found)} run directories")
        return found[0]

    def outcome(self) -> Outcome:
        """Of the only run; it is of its schema, with no field that this does not know."""
        path = self.directory / "outcome.json"
        if not path.exists():
            raise Broken("no outcome.json")
        text = path.read_bytes()
        try:
            found = msgspec.json.decode(text, type=Outcome)
        except msgspec.MsgspecError as error:
            raise Broken(f"outcome.json: {error}") from None
        if json.loads(msgspec.json.encode(found)) != json.loads(text):
            raise Broken("outcome.json has fields that its schema has not")
        return found

    def ranks_of(self, host: Host) -> range:
        first = self.world.hosts.index(host) * self.slots
        return range(first, first + self.slots)

    def host_of(self, rank: int) -> Host:
        return self.world.hosts[rank // self.slots]

    def any_rank(self) -> int:
        return self.rng.randrange(len(self.world.hosts) * self.slots)

    def any_host(self) -> Host:
        return self.rng.choice(self.world.hosts)

    def wait_until(
        self, true: Callable[[], bool], what: str, timeout: float = STARTS, often: float = 0.05
    ) -> None:
        until = time.monotonic() + timeout
        while not true():
            if time.monotonic() > until:
                raise Broken(f"{what}: not within {timeout:g} s")
            time.sleep(often)

    def ready(self, attempt: int = 1) -> None:
        """Until every rank steps, and some moments more."""
        suffix = "" if attempt == 1 else f".attempt-{attempt}"

        def printed() -> bool:
            if not self.detached and self.process is not None and self.process.poll() is not None:
                raise Broken(f"launch ended with {self.process.returncode} before its ranks were ready")
            every = [self.host_of(rank).see(f"/tmp/printed-{rank}{suffix}") for rank in self.ranks()]
            return all(path.exists() and b"\n0 " in path.read_bytes() for path in every)

        self.wait_until(printed, "every rank is ready")
        time.sleep(self.rng.random())

    def ranks(self) -> range:
        return range(len(self.world.hosts) * self.slots)

    def the(self, what: str, host: Host, rank: int | None = None) -> Process:
        found = find(host.processes(), what, rank)
        if not found:
            raise Broken(f"no {what} on {host.name}: {[each.command[:80] for each in host.processes()]}")
        return found[0]

    def send(self, what: str, host: Host, number: int, rank: int | None = None) -> None:
        process = self.the(what, host, rank)
        self.note(f"{signal.Signals(number).name} to {what} {'' if rank is None else rank} on {host.name}")
        process.send(number)

    def interrupt(self, number: int) -> None:
        assert self.process is not None
        self.note(f"{signal.Signals(number).name} to launch")
        self.process.send_signal(number)

    def controllers(self) -> list[Process]:
        """What of clusterctl runs on the controlling machine."""
        return find(processes_of(1, "controller"), "controller")

    def the_controller(self) -> Process:
        """Of a detached run."""
        found = [each for each in self.controllers() if "clusterctl.cli.controller" in each.command]
        if len(found) != 1:
            raise Broken(f"not one controller: {[each.command[:80] for each in found]}")
        return found[0]

    def returns(self) -> int:
        assert self.process is not None
        try:
            return self.process.wait(RETURNS)
        except subprocess.TimeoutExpired:
            raise Broken(f"launch did not return within {RETURNS:g} s") from None

    def stop(self, *options: str) -> int:
        """`clusterctl stop` of the only run, from another terminal. Its exit code."""
        return self.end_of(self.begin("stop", self.directory.name, *options))

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Another command, from another terminal."""
        return subprocess.Popen(
            [*CLUSTERCTL, *words],
            env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip

    def end_of(self, command: subprocess.Popen[str]) -> int:
        assert isinstance(command.args, list)
        verb = command.args[len(CLUSTERCTL)]
        try:
            said, _ = command.communicate(timeout=RETURNS)
        except subprocess.TimeoutExpired:
            command.kill()
            raise Broken(f"`clusterctl {verb}` did not return: {command.communicate()[0][-300:]}") from None
        return self._ended(verb, command.returncode, said)

    def ask(self, *words: str) -> Callable[[], int]:
        """A command that no fault meets, side by side with others. Its exit code, once it has ended."""
        command = Loaded(words, self.world.environment(), RETURNS)

        def ended() -> int:
            try:
                return self._ended(words[0], *command.wait())
            except TimeoutError as late:
                raise Broken(f"`clusterctl {words[0]}` did not return: {late}") from None

        return ended

    def _ended(self, verb: str, code: int, said: str) -> int:
        self.said.append(said)
        if re.search(r"^Traceback", said, re.MULTILINE):
            raise Broken(f"a traceback of `clusterctl {verb}`: {said[-600:]}")
        self.note(f"{verb}: {code}")
        return code

    def end(self) -> None:
        """Leave the hosts as they were, whatever happened."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for each in self.controllers():
            each.send(signal.SIGKILL)
        for host in self.world.every:
            host.link(True)
            host.drain()

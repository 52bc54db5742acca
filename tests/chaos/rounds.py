"""One round: a launch, a fault in it, and what must be true afterwards."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.hosts import ORDINARY, USER, Host, Process, World, find

CLUSTERCTL = (sys.executable, "-m", "clusterctl")
RETURNS = 240.0
"""Seconds after which a launch hangs. Far from what any round takes: it judges no speed."""
STARTS = 180.0
SETTLES = 20.0
LEASE = 150.0
ENDLESS = 10**6


class Broken(Exception):
    """An invariant does not hold."""


@dataclass(frozen=True)
class Expected:
    """How a launch may end. Empty ``kinds``: without a cause. ``settles``: seconds until nothing is left."""

    codes: tuple[int, ...]
    kinds: tuple[str, ...] = ()
    host: str = ""
    rank: int | None = None
    settles: float = SETTLES
    outcome: bool = True
    logs: bool = True


SUCCESS = Expected((0,))


@dataclass
class Round:
    world: World
    rng: random.Random
    real: bool
    """With the real torchrun and a DDP script; else with the stand-in and a rank without torch."""
    slots: int
    process: subprocess.Popen[bytes] | None = None
    screen: Path = Path()
    notes: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """What each `clusterctl stop` printed."""

    # What a user does

    def launch(
        self, steps: int = ENDLESS, *, size: int = 20, who: int = -1, what: str = "", at: int = 0,
        slow: float = 0.0, options: Iterable[str] = (), unread: bool = False, drawn: bool = True,
        within: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """``drawn``: the round draws its engine. ``within``: a command that runs launch, such as prlimit."""
        self.screen = self.world.folder / "screen"
        # The hosts' disks are too small for the quick look, and the stand-in is no torch.
        argv = [*within, *CLUSTERCTL, "launch", "--force"]
        if not self.real:
            argv += ["--profile", str(self.world.profile)]
        elif drawn and self.rng.random() < 0.4:
            self.note("deepspeed")
            argv += ["--engine", "deepspeed", "--no-local-rank"]
        argv += [*options, "ddp.py" if self.real else "cheap.py"]
        argv += [str(each) for each in (steps, size, who, what or "nothing", at, slow)]
        with self.screen.open("wb") as stream:
            self.process = subprocess.Popen(
                argv, cwd=self.world.project, env=self.world.environment() | {"PYTHONPATH": str(Path.cwd())},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if unread else stream, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def note(self, text: str) -> None:
        self.notes.append(text)

    @property
    def directory(self) -> Path:
        found = [each for each in (self.world.home / "runs").glob("[0-9]*") if each.is_dir()]
        if len(found) != 1:
            raise Broken(f"{len(found)} run directories")
        return found[0]

    def ranks_of(self, host: Host) -> range:
        first = self.world.hosts.index(host) * self.slots
        return range(first, first + self.slots)

    def host_of(self, rank: int) -> Host:
        return self.world.hosts[rank // self.slots]

    def any_rank(self) -> int:
        return self.rng.randrange(len(self.world.hosts) * self.slots)

    def any_host(self) -> Host:
        return self.rng.choice(self.world.hosts)

    def log(self, rank: int) -> bytes:
        path = self.directory / "logs" / self.host_of(rank).name / f"rank-{rank}.log"
        return path.read_bytes() if path.exists() else b""

    def wait_until(self, true: Callable[[], bool], what: str, timeout: float = STARTS) -> None:
        until = time.monotonic() + timeout
        while not true():
            if time.monotonic() > until:
                raise Broken(f"{what}: not within {timeout:g} s")
            time.sleep(0.05)

    def ready(self) -> None:
        """Until every rank steps, and some moments more."""
        assert self.process is not None

        def printed() -> bool:
            if self.process is not None and self.process.poll() is not None:
                raise Broken(f"launch ended with {self.process.returncode} before its ranks were ready")
            every = [self.host_of(rank).see(f"/tmp/printed-{rank}") for rank in self.ranks()]
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

    def returns(self) -> int:
        assert self.process is not None
        try:
            return self.process.wait(RETURNS)
        except subprocess.TimeoutExpired:
            raise Broken(f"launch did not return within {RETURNS:g} s") from None

    def stop(self, *options: str) -> int:
        """`clusterctl stop` of the only run, from another terminal. Its exit code."""
        return self.end_of(self.begin_stop(*options))

    def begin_stop(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*CLUSTERCTL, "stop", self.directory.name, *options],
            env=self.world.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip

    def end_of(self, stop: subprocess.Popen[str]) -> int:
        try:
            said, _ = stop.communicate(timeout=RETURNS)
        except subprocess.TimeoutExpired:
            stop.kill()
            raise Broken(f"`clusterctl stop` did not return: {stop.communicate()[0][-300:]}") from None
        self.said.append(said)
        if re.search(r"^Traceback", said, re.MULTILINE):
            raise Broken(f"a traceback of `clusterctl stop`: {said[-600:]}")
        self.note(f"stop: {stop.returncode}")
        return stop.returncode

    # What must be true

    def check(self, expected: Expected) -> None:
        code = self.returns()
        self.note(f"exit code {code}")
        outcome = self.outcome() if expected.outcome else None
        if code not in expected.codes:
            raise Broken(f"exit code {code}, not one of {expected.codes}; {_short(outcome)}")
        if outcome is not None:
            self._check_outcome(outcome, code, expected)
        text = self.screen.read_text(errors="replace") if self.screen.exists() else ""
        if re.search(r"^Traceback", text, re.MULTILINE):
            raise Broken("a traceback of the product on the screen")
        if re.search("\x1b[]P_^]|\x1b\\[2J", text):
            raise Broken("a host's escape sequences on the screen")
        if expected.logs and outcome is not None:
            self._check_logs(outcome)
        self._check_nothing_left(expected.settles)

    def outcome(self) -> dict[str, Any]:
        path = self.directory / "outcome.json"
        if not path.exists():
            raise Broken("no outcome.json")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def _check_outcome(self, outcome: dict[str, Any], code: int, expected: Expected) -> None:
        if code >= 0 and outcome["exit_code"] != code:
            raise Broken(f"exit code {code}, but outcome.json says {outcome['exit_code']}")
        cause = outcome["cause"]
        if cause is None:
            if 0 not in expected.codes:
                raise Broken(f"no cause: {_short(outcome)}")
            return
        if cause["kind"] not in expected.kinds:
            raise Broken(f"cause {_short(outcome)}, kind not one of {expected.kinds}")
        if expected.host and cause["host"] != expected.host:
            raise Broken(f"cause {_short(outcome)}, host not {expected.host}")
        if expected.rank is not None and cause["rank"] != expected.rank:
            raise Broken(f"cause {_short(outcome)}, rank not {expected.rank}")

    def _check_logs(self, outcome: dict[str, Any]) -> None:
        """What a rank printed is here: all of it, or as far as its host is named as incomplete."""
        for rank in self.ranks():
            host = self.host_of(rank)
            printed = host.see(f"/tmp/printed-{rank}")
            if not printed.exists():
                continue
            wrote, here = printed.read_bytes().splitlines(), iter(self.log(rank).splitlines())
            missing = sum(line not in here for line in wrote[:-1])  # the last may not have been printed
            if missing and host.name not in outcome["incomplete_logs"]:
                raise Broken(f"log of rank {rank} lacks {missing} of the {len(wrote)} lines it printed")

    def _check_nothing_left(self, settles: float) -> None:
        until = time.monotonic() + settles
        left: list[str] = []
        while True:
            left = [
                f"{host.name}: {each.command[:100] or each.pid}"
                for host in self.world.hosts
                for each in host.processes()
                if not _belongs(each, host)
            ]
            left += [f"{host.name}: lock {lock}" for host in self.world.hosts for lock in host.locks()]
            if not left:
                return
            if time.monotonic() > until:
                raise Broken(f"left behind: {left}")
            time.sleep(0.2)

    def check_secrets_gone(self) -> None:
        for host in self.world.hosts:
            found = list(host.see(f"/home/{USER}/.clusterctl").glob("node/*/*/job.json"))
            if found:
                raise Broken(f"{host.name}: job.json, with its environment in clear, was left")

    def check_next_launch(self) -> None:
        clean(self.world)
        self.real = False
        self.launch(3)
        self.check(Expected((0,)))

    def end(self) -> None:
        """Leave the hosts as they were, whatever happened."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for host in self.world.hosts:
            host.link(True)
            host.drain()


def clean(world: World) -> None:
    """Forget earlier runs, here and on the hosts."""
    shutil.rmtree(world.home / "runs", ignore_errors=True)
    for host in world.hosts:
        # A run whose controller never came back is kept for it.
        for user in (USER, ORDINARY):
            shutil.rmtree(host.see(f"/home/{user}/.clusterctl/node"), ignore_errors=True)
        for path in host.see("/tmp").glob("printed-*"):
            path.unlink()


def _belongs(process: Process, host: Host) -> bool:
    """Whether a process was there before any launch: the host's first with its `sleep`, and its sshd."""
    if process.pid == host.root or "sshd_config" in process.command or "[listener]" in process.command:
        return True
    return process.parent == host.root and process.command in ("sleep 1", "bash", "")


def _short(outcome: dict[str, Any] | None) -> str:
    if outcome is None:
        return "no outcome"
    cause = outcome["cause"] or {}
    said = (
        f"{cause.get('kind')} on {cause.get('host') or '-'} rank {cause.get('rank')}: {cause.get('message')}"
    )
    return f"{outcome['status']}: {said}"


def keep(round_: Round, folder: Path) -> None:
    """Save what is needed to understand a broken round."""
    folder.mkdir(parents=True, exist_ok=True)
    if round_.screen.exists():
        shutil.copy(round_.screen, folder / "screen.txt")
    for run in (round_.world.home / "runs").glob("[0-9]*"):
        shutil.copytree(run, folder / run.name, dirs_exist_ok=True)
    for host in round_.world.hosts:
        lines = [f"{each.pid} {each.parent} {each.command}" for each in host.processes()]
        (folder / f"{host.name}.processes").write_text("\n".join(lines) + "\n")
        shutil.copytree(
            host.see(f"/home/{USER}/.clusterctl"),
            folder / host.name,
            dirs_exist_ok=True,
            ignore_dangling_symlinks=True,
        )

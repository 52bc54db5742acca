"""What has been heard so far from each host, and what became of those that fell silent."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from clusterctl.ask.no_answer import confirmed, ended, silent
from clusterctl.ask.pool import HostEnded, HostFailed, HostOpened, HostPool, HostSaid, PoolEvent
from clusterctl.facts.decode import decode_facts, decode_torch
from clusterctl.facts.model import Facts, TorchImport
from clusterctl.messages.examination import (
    AwaitBundle,
    Awaiting,
    ExaminationAnswer,
    FactsTold,
    ImportTorch,
    Ping,
    Pong,
    TorchImported,
    examination_answers,
)
from clusterctl.settings import ASK
from clusterctl.transport.protocol import Failure, Transport

Kind = TypeVar("Kind", bound=msgspec.Struct)
Progress = Callable[[str, Facts | Failure], None]
OnAwaiting = Callable[[str, Sequence[str]], None]
"""Called with the tag of the answer that is awaited, and the hosts that have not given it."""


class FactCollector:
    """One session with all hosts. The latest answer of each kind is kept."""

    def __init__(
        self,
        transport: Transport,
        hosts: Sequence[str],
        opening: Callable[[str], bytes],
        *,
        command: str,
        deadline: float,
        torch_timeout: float | None,
        on_progress: Progress,
        on_awaiting: OnAwaiting,
    ) -> None:
        """``deadline`` is time.monotonic seconds; ``torch_timeout`` None leaves torch out."""
        self.hosts = tuple(hosts)
        self.failures: dict[str, Failure] = {}
        self._answers: defaultdict[type[msgspec.Struct], dict[str, Any]] = defaultdict(dict)
        self._facts: dict[str, Facts] = {}
        self._clock: dict[str, tuple[float, float]] = {}
        self._undecided = set(hosts)
        self._opened: deque[tuple[str, float]] = deque()
        self._importing: list[str] = []
        self._torch_timeout = torch_timeout
        self._on_progress = on_progress
        self._on_awaiting = on_awaiting
        self._began = time.monotonic()
        self._transport = transport
        self._pool = HostPool(transport, hosts, command, opening, examination_answers, deadline)

    @property
    def present(self) -> dict[str, Facts]:
        """Hosts that have answered and are still there to be asked, in inventory order."""
        return {
            host: self._facts[host]
            for host in self.hosts
            if host in self._facts and host in self._pool.sessions
        }

    def send(self, host: str, message: msgspec.Struct) -> bool:
        """Whether the host took the message."""
        return self._pool.send(host, message)

    def gather(self, timeout: float, deadline: float) -> None:
        """Hear facts until every host has answered or failed.

        A host fails that is silent for ``timeout`` seconds from when its session began, or that has no
        session by ``deadline``.
        """
        while self._undecided:
            while self._opened and self._opened[0][0] not in self._undecided:
                self._opened.popleft()
            asked = bool(self._opened)
            end = self._opened[0][1] + timeout if asked else deadline
            if time.monotonic() < end:
                self._hear_facts(end)
                continue
            late = {self._opened[0][0]} if asked else set(self._undecided)
            for host in self.hosts:
                if host in late:
                    self._fail(silent(host, self._pool.sessions.get(host), self._seconds))

    def confirm_paths(self) -> None:
        """Tell paths on which only small packets pass from those on which nothing does any more."""
        self.failures.update(confirmed(self._transport, self.failures.values()))

    def _hear_facts(self, end: float) -> None:
        """Until ``end``, until every host is decided, or until a session opens where none was waited for."""
        none = not self._opened
        self._until(lambda: not self._undecided or (none and bool(self._opened)), end)

    def wait(
        self, kind: type[Kind], hosts: Sequence[str], deadline: float, *, phase: str = ""
    ) -> dict[str, Kind]:
        """Answers of this kind from ``hosts``, as far as they came before the deadline or the end. ``phase``
        is what progress hears it called, where not by its kind."""
        answers: dict[str, Kind] = self._answers[kind]

        def done() -> bool:
            left = [host for host in hosts if host not in answers and host in self._pool.sessions]
            self._on_awaiting(phase or str(kind.__struct_config__.tag), left)
            return not left

        self._until(done, deadline)
        return {host: answers[host] for host in hosts if host in answers}

    def hear(self, kind: type[Kind], done: Callable[[Mapping[str, Kind]], bool], deadline: float) -> None:
        """Take what comes until ``done``, which is given the latest answers of this kind by host."""
        self._until(lambda: done(self._answers[kind]), deadline)

    def awaiting(self, what: str, hosts: Sequence[str]) -> None:
        """Say whom we wait for."""
        self._on_awaiting(what, hosts)

    def ask(
        self, kind: type[Kind], questions: Mapping[str, msgspec.Struct], timeout: float, *, phase: str = ""
    ) -> dict[str, Kind]:
        """Answers of this kind to these questions, one for each host; what it told before is forgotten.

        Whoever is slow is waited for until the timeout; who does not even say that it is there is not.
        """
        for host, question in questions.items():
            self._answers[kind].pop(host, None)
            self.send(host, question)
        deadline = time.monotonic() + timeout
        awaited = tuple(questions)
        while awaited and time.monotonic() < deadline:
            end = min(deadline, time.monotonic() + ASK.alive_interval)
            told = self.wait(kind, awaited, end, phase=phase)
            awaited = self.alive([host for host in awaited if host not in told])
        answers: dict[str, Kind] = self._answers[kind]
        return {host: answers[host] for host in questions if host in answers}

    def settle(self) -> None:
        """Hear what is still to come: clocks, and imports of torch. A host ends its import itself when it
        stands still; it is waited for as long as it is there."""
        timeless = tuple(host for host in self.present if host not in self._clock)
        self.wait(Pong, timeless, time.monotonic() + ASK.alive_timeout)
        awaited = tuple(self._importing)
        while awaited:
            told = self.wait(TorchImported, awaited, time.monotonic() + ASK.alive_interval)
            awaited = self.alive([host for host in awaited if host not in told])

    def alive(self, hosts: Sequence[str]) -> tuple[str, ...]:
        """Those of ``hosts`` that answer at all: what they were asked takes the time that it takes there."""
        pongs = self._answers[Pong]
        for host in hosts:
            pongs.pop(host, None)
            self.send(host, Ping(sent=time.time()))
        self._until(
            lambda: all(host in pongs or host not in self._pool.sessions for host in hosts),
            time.monotonic() + ASK.alive_timeout,
        )
        return tuple(host for host in hosts if host in pongs and host in self._pool.sessions)

    def facts(self) -> dict[str, Facts]:
        """Facts of every host that answered, with its clock and its import of torch."""
        return {host: self._complete(host, self._facts[host]) for host in self.hosts if host in self._facts}

    def release(self, deadline: float) -> None:
        """Leave every host that is ready by then waiting for the next bundle, in the session it has."""
        ready = [host for host in self.present if self.send(host, AwaitBundle())]
        for host in self.wait(Awaiting, ready, deadline):
            if host in self._pool.sessions:
                self._pool.release(host)

    def close(self) -> None:
        self._pool.close()

    def _until(self, done: Callable[[], bool], deadline: float) -> None:
        if done():
            return
        for event in self._pool.events(deadline):
            self._take(event)
            if done():
                return

    def _take(self, event: PoolEvent[ExaminationAnswer]) -> None:
        match event:
            case HostOpened(host):
                self._opened.append((host, time.monotonic()))
            case HostFailed(host, failure):
                self._undecided.discard(host)
                self.failures[host] = failure
                self._on_progress(host, failure)
            case HostEnded(host, session) if session.fault:
                # Who sends what is no answer is not believed in what it said before either.
                told = self._facts.pop(host, None) is not None
                self._fail(ended(session, self._seconds), told=told)
            case HostEnded(host, session) if host not in self._facts:
                self._fail(ended(session, self._seconds))
            case HostSaid(host, message):
                self._answers[type(message)][host] = message
                if isinstance(message, FactsTold):
                    self._heard_facts(host, message)
                elif isinstance(message, Pong):
                    now = time.time()
                    heard = (message.time - (message.sent + now) / 2, (now - message.sent) / 2)
                    self._clock[host] = min(heard, self._clock.get(host, heard), key=lambda each: each[1])

    def _heard_facts(self, host: str, message: FactsTold) -> None:
        noise = self._pool.sessions[host].noise.decode("utf-8", "replace")
        complaints = self._pool.sessions[host].stderr.decode("utf-8", "replace")
        facts = decode_facts(host, message.facts, noise=noise, complaints=complaints)
        self._facts[host] = facts
        self._undecided.discard(host)
        self.send(host, Ping(sent=time.time()))
        if self._torch_timeout is not None and "torch" in facts.python.packages:
            self._importing.append(host)
            self.send(host, ImportTorch(python=facts.python.executable, timeout=self._torch_timeout))
        self._on_progress(host, facts)

    def _complete(self, host: str, facts: Facts) -> Facts:
        torch = None
        answer: TorchImported | None = self._answers[TorchImported].get(host)
        if answer is not None:
            torch = TorchImport(ok=False, error=answer.error) if answer.error else decode_torch(answer.torch)
        elif host in self._importing:
            torch = TorchImport(ok=False, told=False, error="the host did not tell how `import torch` ended")
        offset, error = self._clock.get(host, (None, None))
        return msgspec.structs.replace(facts, torch=torch, clock_offset=offset, clock_error=error)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _fail(self, failure: Failure, *, told: bool = False) -> None:
        """``told``: progress has heard of this host already."""
        self.failures[failure.host] = failure
        self._undecided.discard(failure.host)
        if not told:
            self._on_progress(failure.host, failure)

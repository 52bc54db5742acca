"""One command on many hosts: start it everywhere, collect what it says, leave nothing when time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from clusterctl.ask.bundle import NO_PYTHON, REMOTE_COMMAND, pack
from clusterctl.ask.host_session import HostSession
from clusterctl.ask.pool import HostEnded, HostFailed, HostPool, HostSaid
from clusterctl.messages.exec import CommandEnded, ExecMessage, Output, exec_messages
from clusterctl.settings import EXEC
from clusterctl.transport.protocol import Failure, Transport

StreamName = Literal["out", "err"]
OnOutput = Callable[[str, StreamName, bytes], None]
OnAnswer = Callable[[str, "Answer"], None]

UNREACHABLE = 255
TIMED_OUT = 124


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a host said. ``exit_code`` is the command's own (128+n for a signal), 124 when it was ended at its
    timeout, 255 when ``failure`` says why the host gave no answer. ``truncated`` counts bytes not kept,
    ``left`` the processes that could not be ended at the timeout (None: not even that could be told).
    """

    host: str
    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""
    truncated: int = 0
    left: int | None = 0
    seconds: float = 0.0
    failure: Failure | None = None


class _Heard:
    """Output of one host as it arrives, up to a limit."""

    def __init__(self) -> None:
        self.streams: dict[StreamName, bytearray] = {"out": bytearray(), "err": bytearray()}
        self.truncated = 0

    def add(self, stream: StreamName, data: bytes) -> None:
        kept = self.streams[stream]
        room = EXEC.max_output - len(kept)
        kept += data[:room]
        self.truncated += max(0, len(data) - room)


def run(
    transport: Transport,
    hosts: Sequence[str],
    argv: Sequence[str],
    *,
    timeout: float,
    on_output: OnOutput | None = None,
    on_answer: OnAnswer | None = None,
) -> tuple[Answer, ...]:
    """Run ``argv`` (no shell reads it) on all hosts; answers in the order of ``hosts``, one for each.

    ``timeout`` is seconds of the command itself; logging in may take its own limits on top. Leaving early
    (an exception, Ctrl-C) ends the command on every host.
    """
    began = time.monotonic()
    deadline = began + EXEC.login_timeout + timeout + EXEC.end_timeout
    request = {"argv": list(argv), "timeout": timeout}
    bundle = pack("exec", request, files=("shared.processes",))
    heard = {host: _Heard() for host in hosts}
    answers: dict[str, Answer] = {}

    def settle(host: str, exit_code: int, left: int | None = 0, failure: Failure | None = None) -> None:
        if host in answers:
            return
        said = heard[host]
        answers[host] = Answer(
            host=host,
            exit_code=exit_code,
            stdout=bytes(said.streams["out"]),
            stderr=bytes(said.streams["err"]),
            truncated=said.truncated,
            seconds=time.monotonic() - began,
            left=left,
            failure=failure,
        )
        if on_answer:
            on_answer(host, answers[host])

    pool = HostPool(transport, hosts, REMOTE_COMMAND, lambda _: bundle, exec_messages, deadline)
    try:
        for event in pool.events(deadline):
            match event:
                case HostFailed(host, failure):
                    settle(host, UNREACHABLE, failure=failure)
                case HostSaid(host, Output(stream=stream, data=data)):
                    heard[host].add(stream, data)
                    if on_output:
                        on_output(host, stream, data)
                case HostSaid(host, CommandEnded(code=code, timed_out=timed_out, left=left)):
                    settle(host, TIMED_OUT if timed_out else code, left=left)
                case HostEnded(host, session) if host not in answers:
                    settle(host, UNREACHABLE, failure=_unanswered(session))
            if len(answers) == len(hosts):
                break
    finally:
        pool.close()
    for host in hosts:
        settle(host, UNREACHABLE, failure=_silent(host, timeout))
    return tuple(answers[host] for host in hosts)


def worst(answers: Sequence[Answer]) -> int:
    """The exit code for all hosts together: the highest, so 255 when one could not be asked."""
    return max((answer.exit_code for answer in answers), default=0)


def _unanswered(session: HostSession[ExecMessage]) -> Failure:
    """The link ended before the command did."""
    if session.fault:
        return Failure(
            host=session.host,
            stage="decode",
            message=f"its answer cannot be read: {session.fault}",
            hint=f"see what a plain login there prints: ssh {session.host} true",
        )
    code = session.channel.exit_code
    said = (session.stderr or session.noise).decode("utf-8", "replace").strip().splitlines()
    if code == NO_PYTHON:
        return Failure(
            host=session.host,
            stage="python",
            message="no Python 3.8 or newer was found on the host",
            hint="install python3, or put it on the PATH of non-interactive logins",
        )
    if code is None:
        return Failure(
            host=session.host,
            stage="exec",
            message="the connection broke while the command ran; its end is unknown",
            hint="see whether the host is still up: clusterctl exec -- uptime",
        )
    return Failure(
        host=session.host,
        stage="decode",
        message=f"the login shell ended with {code} before the command was started"
        + (f": {said[-1]}" if said else ""),
        hint="`ssh HOST true` must work without a terminal; look at the shell's start-up files",
    )


def _silent(host: str, timeout: float) -> Failure:
    return Failure(
        host=host,
        stage="deadline",
        message=f"no end of the command after {timeout:g} s and no answer to its stop",
        hint="the host may be frozen or out of memory; try again with a longer --timeout",
    )

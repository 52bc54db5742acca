"""Why a host gave no facts, from what its session has shown."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from clusterctl.ask.bundle import NO_PYTHON
from clusterctl.ask.host_session import HostSession
from clusterctl.transport.protocol import Failure, Stage, Transport
from clusterctl.transport.stuck import path_mtu, takes_connections

_AT_ONCE = 32
_CONNECT_TIMEOUT = 5.0
_SIGNALS = {128 + each: each.name for each in signal.Signals}
"""Exit codes with which a shell tells that a signal ended its command."""


def silent(host: str, session: HostSession[Any] | None, seconds: float) -> Failure:
    """It was waited for in vain, for ``seconds``."""
    if session is None:
        return _failure(
            host,
            "connect",
            f"no connection within {seconds:.0f} s",
            "is the host up, and sshd reachable?",
            seconds,
        )
    said = _last_words(session)
    if session.channel.stuck:
        return _stuck(session, seconds)
    if not session.received:
        return _failure(
            host,
            "deadline",
            f"logged in, but nothing came back within {seconds:.0f} s: the login shell's start-up files "
            "hang, or large packets are lost on the way",
            f"try `ssh {host} true`: where that hangs, look into ~/.bashrc there; where it does "
            "not: ping -M do -s 1472 to the host, and lower the MTU on the way",
            seconds,
        )
    return _failure(
        host,
        "deadline",
        f"connected, but no answer within {seconds:.0f} s{f'; it last said: {said}' if said else ''}",
        f"look at its load and its disks: ssh {host} uptime",
        seconds,
    )


def ended(session: HostSession[Any], seconds: float) -> Failure:
    """Its session is over, and it had not told its facts, or told what nobody can read."""
    if session.channel.stuck and not session.fault:
        return _stuck(session, seconds)
    return _failure(session.host, *_how(session), seconds)


def _how(session: HostSession[Any]) -> tuple[Stage, str, str]:
    code, said, host = session.channel.exit_code, _last_words(session), session.host
    if session.fault:
        return "decode", f"its answer cannot be read: {session.fault}", f"try: ssh {host} true"
    if code == NO_PYTHON:
        return "python", "no Python 3.8 or newer found there", "sudo apt install python3"
    if b"invalid literal for int()" in session.stderr:  # the length that comes before the bundle
        return "exec", "a start-up file of the login shell reads the input that was meant for the command", ""
    if code is None or code < 0:
        return "decode", f"the session ended before an answer came{f': {said}' if said else ''}", ""
    if b"Traceback" in session.stderr:
        return "decode", f"the probe broke there: {said}", f"ssh {host} /usr/bin/python3 --version"
    if code in _SIGNALS:
        return "decode", f"the examination was ended there by {_SIGNALS[code]}", f"ssh {host} free -m"
    return "exec", f"the login shell ended with {code}{f': {said}' if said else ''}", f"try: ssh {host} true"


def confirmed(transport: Transport, failures: Iterable[Failure]) -> dict[str, Failure]:
    """Those of the failures that turn out to be of another kind.

    Data stands still on a path that loses large packets, and on one that passes nothing any more: a new
    connection, whose packets are small, comes about on the first only.
    """
    doubtful = [(failure, address) for failure in failures if failure.stage == "path"
                and (address := transport.address_of(failure.host))]  # fmt: skip
    if not doubtful:
        return {}
    with ThreadPoolExecutor(min(len(doubtful), _AT_ONCE)) as threads:
        passing = list(threads.map(lambda each: takes_connections(each[1], _CONNECT_TIMEOUT), doubtful))
    return {
        failure.host: msgspec.structs.replace(
            failure,
            stage="decode",
            message="the session broke off, and no new connection is taken: the host, or the way to it, went "
            "down meanwhile",
            hint=f"try: ssh {failure.host} true",
        )
        for (failure, _), passes in zip(doubtful, passing, strict=True)
        if not passes
    }


def _stuck(session: HostSession[Any], seconds: float) -> Failure:
    found = path_mtu(session.host, session.channel.stuck)
    return msgspec.structs.replace(found, seconds=seconds)


def _failure(host: str, stage: Stage, message: str, hint: str, seconds: float) -> Failure:
    return Failure(host=host, stage=stage, message=message, hint=hint, seconds=seconds)


def _last_words(session: HostSession[Any]) -> str:
    """The last line of stderr, else of what the login shell printed."""
    for text in (session.stderr, session.noise):
        lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
        if lines:
            return lines[-1][:200]
    return ""

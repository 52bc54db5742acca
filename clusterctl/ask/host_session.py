"""A session with one bundle on one host, in JSON lines; and many such sessions driven by one thread."""

from __future__ import annotations

import json
import selectors
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from clusterctl.transport.protocol import Channel

MARK = b"@@clusterctl1 "
_NOISE_LIMIT = 64 * 1024


class HostSession:
    """Messages from one channel. What is not a message is kept: ``noise`` (stdout) and ``stderr``."""

    def __init__(self, channel: Channel) -> None:
        self.host = channel.host
        self.channel = channel
        self.noise = b""
        self.stderr = b""
        self._partial = b""
        self._sending = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message, from any thread. Raises OSError when the link is gone."""
        with self._sending:
            self.channel.send(json.dumps(message).encode("ascii") + b"\n")

    def nudge(self, message: dict[str, Any]) -> None:
        """Send a message that says no more than that we live; not needed while another is on its way.

        Nothing is raised: who reads from this session learns that its link is gone.
        """
        if self._sending.acquire(blocking=False):
            try:
                self.channel.send(json.dumps(message).encode("ascii") + b"\n")
            except OSError as error:
                self.stderr += f"\n{error}".encode()
            finally:
                self._sending.release()

    def receive(self) -> list[dict[str, Any]]:
        """Messages that have arrived, in order; never blocks."""
        out, err = self.channel.receive()
        self.stderr = (self.stderr + err)[-_NOISE_LIMIT:]
        *lines, self._partial = (self._partial + out).split(b"\n")
        found = []
        for line in lines:
            marker = line.find(MARK)
            message = _decode(line[marker + len(MARK) :]) if marker >= 0 else None
            if message is None:
                self.noise = (self.noise + line + b"\n")[:_NOISE_LIMIT]
            else:
                self.noise += line[:marker]
                found.append(message)
        return found

    @property
    def ended(self) -> bool:
        return self.channel.ended

    def close(self) -> None:
        self.channel.close()


def _decode(text: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(text)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def listen(
    sessions: Iterable[HostSession], deadline: float
) -> Iterator[tuple[HostSession, dict[str, Any] | None]]:
    """Yield (session, message) as they come, and (session, None) once when one has ended.

    Stops when all have ended or ``deadline`` (time.monotonic seconds) has passed. The caller may stop
    early: channels stay open.
    """
    with selectors.DefaultSelector() as selector:
        for session in sessions:
            selector.register(session.channel.fileno(), selectors.EVENT_READ, session)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return
            for key, _ in selector.select(left):
                session = key.data
                for message in session.receive():
                    yield session, message
                if session.ended:
                    selector.unregister(key.fileobj)
                    yield session, None

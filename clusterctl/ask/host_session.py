"""A session with one bundle on one host, in JSON lines; and many such sessions driven by one thread."""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Generic

import msgspec

from clusterctl.ask.bundle import NO_PYTHON
from clusterctl.messages.codec import Decoder, Garbled, Message, encode
from clusterctl.transport.protocol import Channel

MARK = b"@@clusterctl1 "
_NOISE_LIMIT = 64 * 1024
_LINE_LIMIT = 8 << 20
"""A line that is longer is no message: the longest are pieces of half a megabyte. A host that says as much
besides its messages never comes to them."""


class HostSession(Generic[Message]):
    """Messages from one channel. What is not a message is kept: ``noise`` (stdout) and ``stderr``.

    ``fault`` says what the host sent that is none of the messages expected; it ends the session.
    """

    def __init__(self, channel: Channel, decoder: Decoder[Message]) -> None:
        self.host = channel.host
        self.channel = channel
        self.noise = b""
        self.stderr = b""
        self.fault = ""
        self.received = 0
        """Bytes so far, of whatever kind: a host that sends any is alive."""
        self._decoder = decoder
        self._buffer = bytearray()
        self._scanned = 0
        self._noise_bytes = 0
        self._sending = threading.Lock()

    def send(self, message: msgspec.Struct) -> None:
        """Send one message, from any thread. Raises OSError when the link is gone."""
        with self._sending:
            self.channel.send(encode(message))

    def receive(self) -> list[Message]:
        """Messages that have arrived, in order; never blocks."""
        out, err = self.channel.receive()
        self.received += len(out) + len(err)
        self.stderr = (self.stderr + err)[-_NOISE_LIMIT:]
        if self.fault:
            return []
        self._buffer += out
        found: list[Message] = []
        begin = 0
        while (end := self._buffer.find(b"\n", max(begin, self._scanned))) >= 0:
            line, begin = bytes(self._buffer[begin:end]), end + 1
            marker = line.find(MARK)
            if marker < 0:
                self._hear_noise(line + b"\n")
                continue
            self._hear_noise(line[:marker])
            try:
                found.append(self._decoder.decode(line[marker + len(MARK) :]))
            except Garbled as error:
                self.fault = f"it sent something that is not a message: {error}"
                return found
        del self._buffer[:begin]
        self._scanned = len(self._buffer)
        if self._noise_bytes > _LINE_LIMIT:
            self.fault = (
                f"its login shell printed more than {_LINE_LIMIT >> 20} MiB and did not come to an end"
            )
        if self._scanned > _LINE_LIMIT:
            self.fault = f"it sent a line of more than {_LINE_LIMIT >> 20} MiB"
        return found

    def _hear_noise(self, text: bytes) -> None:
        self._noise_bytes += len(text)
        if len(self.noise) < _NOISE_LIMIT:
            self.noise = (self.noise + text)[:_NOISE_LIMIT]

    @property
    def ended(self) -> bool:
        return bool(self.fault) or self.channel.ended

    @property
    def last_words(self) -> str:
        """Why it ended, as far as the host or the link has said: one line, or nothing."""
        lines = self.stderr.decode("utf-8", "replace").strip().splitlines()
        return self.fault or (lines[-1] if lines else "")

    def why_ended(self, what: str = "connection") -> str:
        """In one line, of one that ended before all was told: ``what`` broke off."""
        if self.channel.exit_code == NO_PYTHON:
            return "no Python 3.8 or newer was found on the host"
        return f"the {what} broke off" + (f": {self.last_words}" if self.last_words else "")

    def close(self) -> None:
        self.channel.close()


def listen(
    sessions: Iterable[HostSession[Message]], deadline: float
) -> Iterator[tuple[HostSession[Message], Message | None]]:
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

"""A transport to hosts that have said all they will ever say."""

from __future__ import annotations

import os
from collections.abc import Mapping

from clusterctl.transport.protocol import Channel, Failure, Stuck
from tests.bare_transport import BareTransport


class RecordedChannel:
    """A host that has said ``text`` and hung up."""

    seconds = 0.0
    exit_code = 0
    pending = 0
    stuck: Stuck = ""

    def __init__(self, host: str, text: bytes) -> None:
        self.host = host
        self.text = text
        self.ended = False
        self.reader, writer = os.pipe()  # its end polls readable
        os.close(writer)

    def fileno(self) -> int:
        return self.reader

    def send(self, data: bytes) -> None:
        pass

    def receive(self) -> tuple[bytes, bytes]:
        text, self.text, self.ended = self.text, b"", True
        return text, b""

    def close_input(self) -> None:
        pass

    def close(self) -> None:
        os.close(self.reader)


class RecordedHosts(BareTransport):
    """``said``: host -> its output."""

    def __init__(self, said: Mapping[str, bytes]) -> None:
        self.said = said

    def open(self, host: str, command: str, deadline: float) -> Channel | Failure:
        return RecordedChannel(host, self.said[host])

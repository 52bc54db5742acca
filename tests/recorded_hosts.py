"""A transport to hosts that have said all they will ever say."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from clusterctl.transport.protocol import Channel, Failure, Stuck


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


class RecordedHosts:
    """``said``: host -> its output."""

    def __init__(self, said: Mapping[str, bytes]) -> None:
        self.said = said

    def open(self, host: str, command: str, deadline: float) -> Channel | Failure:
        return RecordedChannel(host, self.said[host])

    def open_all(
        self, hosts: Sequence[str], command: str, deadline: float
    ) -> Iterator[tuple[str, Channel | Failure]]:
        for host in hosts:
            yield host, self.open(host, command, deadline)

    def address_of(self, host: str) -> tuple[str, int] | None:
        return None

    def open_ahead(self, hosts: Sequence[str], command: str, deadline: float) -> None:
        raise NotImplementedError

    def keep(self, channel: Channel, command: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass

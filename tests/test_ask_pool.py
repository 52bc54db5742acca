"""When opening channels breaks in its own thread, whoever asks must hear of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pytest

from clusterctl.ask.pool import HostPool
from clusterctl.messages.exec import exec_messages
from clusterctl.transport.protocol import Channel, Failure


class Breaking:
    """A transport whose first host is down, and which then breaks."""

    def open(self, host: str, command: str, deadline: float) -> Channel | Failure:
        raise NotImplementedError

    def open_all(
        self, hosts: Sequence[str], command: str, deadline: float
    ) -> Iterator[tuple[str, Channel | Failure]]:
        yield hosts[0], Failure(host=hosts[0], stage="connect", message="down")
        raise RuntimeError("no more descriptors")

    def address_of(self, host: str) -> tuple[str, int] | None:
        raise NotImplementedError

    def keep(self, channel: Channel, command: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


def test_an_error_while_opening_is_raised_where_answers_are_heard() -> None:
    pool = HostPool(Breaking(), ("a", "b"), "true", lambda host: b"", exec_messages, time.monotonic() + 30)
    events = pool.events(time.monotonic() + 30)
    assert next(events).host == "a"
    with pytest.raises(RuntimeError, match="no more descriptors"):
        next(events)
    pool.close()

"""Starting a run, with hosts played by the test."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from clusterctl.ask.host_session import MARK, HostSession
from clusterctl.errors import ClusterctlError
from clusterctl.messages.events import Refused
from clusterctl.messages.relay import Heartbeat, HostEvent, replies
from clusterctl.run.start import Halted, Startup
from clusterctl.transport.protocol import Channel, Failure
from tests.test_run_machine import plan


class Host:
    """A channel that answers ``start`` with everything in ``says`` at once."""

    def __init__(self, host: str, says: Sequence[dict[str, Any]]) -> None:
        self.host = host
        self.seconds = 0.0
        self.says = says
        self.heard: list[dict[str, Any]] = []
        self.ended = False
        self.exit_code = None

    def send(self, data: bytes) -> None:
        self.heard += [json.loads(line) for line in data.splitlines()]

    def receive(self) -> tuple[bytes, bytes]:
        says, self.says = self.says, ()
        return b"".join(MARK + json.dumps(each).encode() + b"\n" for each in says), b""

    def close(self) -> None:
        self.ended = True


class Hosts:
    def __init__(self, *hosts: Host) -> None:
        self.hosts = hosts

    def open_all(
        self, hosts: Sequence[str], command: str, deadline: float
    ) -> Iterator[tuple[str, Channel | Failure]]:
        for host in self.hosts:
            yield host.host, cast(Channel, host)


def start(*hosts: Host, halted: bool = False) -> tuple[Startup, list[dict[str, Any]]]:
    recorded: list[dict[str, Any]] = []
    found = Startup(
        plan(len(hosts)),
        None,
        cast(Any, Hosts(*hosts)),
        owner="ann",
        greet=lambda node_rank, channel: HostSession(channel, replies),
        record=recorded.append,
        halted=lambda: halted,
    )
    return found, recorded


STARTED = {"is": "started", "cwd": "/p", "run_dir": "/r"}


def test_what_comes_with_the_word_of_the_start_is_kept() -> None:
    event = {"event": "refused", "time": 1.0, "reason": "slot 0 is busy"}
    refused = {"is": "event", "offset": 9, "event": event}
    found, recorded = start(Host("h0", [STARTED, refused]), Host("h1", [STARTED]))
    found.carry_out()
    assert found.early == [(0, HostEvent(offset=9, event=Refused(time=1.0, reason="slot 0 is busy")))]
    assert found.ordered == {0, 1}
    assert [event["host"] for event in recorded] == ["h0", "h1"]


def test_a_host_that_cannot_start_is_named_and_nothing_it_said_is_lost() -> None:
    beat = {"is": "beat", "time": 1.0}
    failed = {"is": "failed", "what": "start", "reason": "No space left on device"}
    found, _ = start(Host("h0", [STARTED]), Host("h1", [failed, beat]))
    with pytest.raises(ClusterctlError, match="h1: cannot start there: No space left"):
        found.carry_out()
    assert (found.ordered, found.early) == ({0}, [(1, Heartbeat(time=1.0))])


def test_who_wants_an_end_gets_it_before_anything_is_ordered() -> None:
    hosts = Host("h0", [STARTED]), Host("h1", [STARTED])
    found, _ = start(*hosts, halted=True)
    with pytest.raises(Halted):
        found.carry_out()
    assert not [order for host in hosts for order in host.heard if order["do"] == "start"]
    assert found.ordered == set()

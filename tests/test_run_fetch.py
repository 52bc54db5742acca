"""Logs that were cut off at the end of their run, fetched later from hosts played by the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.messages import orders, relay
from clusterctl.run.display import Display
from clusterctl.run.fetch import LogFetch
from clusterctl.session.run import fetch_logs
from clusterctl.store.outcome import Attempt, Outcome
from clusterctl.store.runs import RunDirectory
from tests.fake_hosts import FakeChannel, FakeHost, FakeTransport
from tests.test_run_machine import plan

LOG = "rank-0.log"


class Ended:
    """A run of two hosts that has ended with a part of the log of the first."""

    def __init__(self) -> None:
        self.hosts = [FakeHost(f"h{rank}", rank) for rank in range(2)]
        self.plan = plan(2)
        self.directory = RunDirectory.create(self.plan)
        self.directory.append_log("h0", LOG, 0, b"one\n")
        self.hosts[0].log = b"one\ntwo\n"
        self.hosts[0].on[orders.Attach] = self.tell
        self.outcome = Outcome(
            run="r", status="stopped", exit_code=123, left_behind={"h0": 0, "h1": 0}, incomplete_logs=("h0",)
        )

    def tell(self, channel: FakeChannel, _: Any) -> None:
        rest = relay.LogPiece(name=LOG, offset=4, data=b"two\n")
        channel.say(relay.Heartbeat(time=1.0), rest, self.hosts[0].complete())

    def fetch(self, **more: Any) -> dict[str, str]:
        transport = FakeTransport(*self.hosts)
        fetching = LogFetch(self.plan, self.outcome, transport, self.directory, Display(), **more)
        fetching.carry_out()
        return fetching.problems

    def ordered(self, kind: type[orders.Order]) -> list[Any]:
        return [order for host in self.hosts for order in host.orders if isinstance(order, kind)]

    @property
    def incomplete(self) -> tuple[str, ...]:
        outcome = self.directory.outcome()
        assert outcome is not None and outcome.status == "stopped"
        return outcome.incomplete_logs


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ended:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    return Ended()


def test_the_rest_of_a_log_comes_and_then_its_host_forgets(ended: Ended) -> None:
    assert ended.fetch() == {}
    assert (ended.directory.host_logs("h0") / LOG).read_bytes() == b"one\ntwo\n"
    assert ended.incomplete == ()
    assert len(ended.ordered(orders.Forget)) == 1
    assert ended.hosts[1].opened == 0, "nothing of it is missing"
    assert not ended.ordered(orders.Stop)


def test_logs_of_an_earlier_attempt_come_as_well(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spare has taken the place of its host since."""
    spare = msgspec.structs.replace(ended.plan.nodes[0], host="h2")
    again = msgspec.structs.replace(ended.plan, attempt=2, nodes=(spare, ended.plan.nodes[1]))
    ended.directory.begin_attempt(again)
    first = Attempt(attempt=1, status="lost", exit_code=121, incomplete_logs=("h0",))
    second = Attempt(attempt=2, status="succeeded", exit_code=0)
    ended.outcome = msgspec.structs.replace(ended.outcome, incomplete_logs=(), attempts=(first, second))
    ended.directory.write("outcome.json", ended.outcome)
    monkeypatch.setattr(
        "clusterctl.session.run.transport_of", lambda _: FakeTransport(*ended.hosts, FakeHost("h2", 0))
    )
    assert ended.outcome.incomplete_anywhere == ("h0",)
    assert fetch_logs(ended.directory, Display()) == {}
    assert (ended.directory.host_logs("h0") / LOG).read_bytes() == b"one\ntwo\n"
    outcome = ended.directory.outcome()
    assert outcome is not None and outcome.incomplete_anywhere == ()
    assert [each.status for each in outcome.attempts] == ["lost", "succeeded"]
    assert len(ended.ordered(orders.Forget)) == 1


def test_a_host_whose_end_nobody_knows_is_stopped_first(ended: Ended) -> None:
    ended.outcome.left_behind["h0"] = None
    assert ended.fetch() == {}
    assert [order.grace for order in ended.ordered(orders.Stop)] == [0.0]


def refuse(channel: FakeChannel) -> None:
    raise ConnectionRefusedError("refused")


def test_a_host_that_cannot_be_reached_keeps_its_logs(ended: Ended) -> None:
    ended.hosts[0].on_open = refuse
    assert ended.fetch() == {"h0": "refused"}
    assert ended.incomplete == ("h0",)
    assert not ended.ordered(orders.Forget)


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([relay.Absent()], "no longer knows this run"),
        ([relay.Heartbeat(time=1.0)], "nothing more came"),
        ([relay.Complete(logs={LOG: relay.Fingerprint(size=8, sha256="0" * 64)})], "not what the host says"),
    ],
)
def test_what_does_not_come_is_said(ended: Ended, answers: list[relay.Reply], why: str) -> None:
    ended.hosts[0].on[orders.Attach] = lambda channel, _: channel.say(*answers)
    found = ended.fetch(timeout=0.5)
    assert list(found) == ["h0"] and why in found["h0"]
    assert ended.incomplete == ("h0",)
    assert not ended.ordered(orders.Forget)

"""Starting a run, with hosts played by the test."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clusterctl.ask.host_session import HostSession
from clusterctl.ask.tree import scan
from clusterctl.errors import ClusterctlError
from clusterctl.messages import events, orders, relay
from clusterctl.plan.model import LaunchPlan
from clusterctl.run.display import Display
from clusterctl.run.links import Heard, Links
from clusterctl.run.start import Halted, Startup
from tests.fake_hosts import FakeChannel, FakeHost, FakeTransport
from tests.test_run_machine import plan

STARTED = relay.Started(cwd="/p", run_dir="/r")


class Told(Display):
    def __init__(self) -> None:
        self.awaited: list[str] = []

    def awaiting(self, text: str) -> None:
        self.awaited.append(text)


class Opening:
    """A start on some hosts, and what it has recorded."""

    def __init__(self, hosts: int, *, halted: bool = False, tree: Any = None) -> None:
        self.hosts = [FakeHost(f"h{rank}", rank) for rank in range(hosts)]
        self.recorded: list[Mapping[str, Any]] = []
        self.display = Told()
        self.plan: LaunchPlan = plan(hosts)
        transport = FakeTransport(*self.hosts)
        self.links = Links(transport.hosts, transport, lambda _, channel: HostSession(channel, relay.replies))
        self.startup = Startup(
            self.plan,
            tree,
            self.links,
            owner="ann",
            stdin=False,
            in_place={},
            record=self.recorded.append,
            halted=lambda: halted,
            display=self.display,
        )

    def early(self) -> list[tuple[int, relay.Reply]]:
        heard = [event for event in self.startup.early if isinstance(event, Heard)]
        return [(event.node, reply) for event in heard for reply in event.replies]


def test_what_comes_with_the_word_of_the_start_is_kept() -> None:
    opening = Opening(2)
    refused = relay.HostEvent(offset=9, event=events.Refused(time=1.0, reason="slot 0 is busy"))
    opening.hosts[0].on[orders.StartAgent] = lambda channel, _: channel.say(STARTED, refused)
    opening.hosts[1].on[orders.StartAgent] = lambda channel, _: channel.say(STARTED)
    opening.startup.carry_out()
    assert opening.early() == [(0, refused)]
    assert opening.startup.ordered == {0, 1}
    assert {event["host"] for event in opening.recorded} == {"h0", "h1"}
    opening.links.close()


def test_a_host_that_cannot_start_is_named_and_nothing_it_said_is_lost() -> None:
    opening = Opening(2)
    beat = relay.Heartbeat(time=1.0)
    failed = relay.Failed(what="start", reason="No space left on device")
    opening.hosts[0].on[orders.StartAgent] = lambda channel, _: channel.say(STARTED)
    opening.hosts[1].on[orders.StartAgent] = lambda channel, _: channel.say(failed, beat)
    with pytest.raises(ClusterctlError, match="h1: cannot start there: No space left"):
        opening.startup.carry_out()
    assert opening.startup.ordered == {0}
    assert (1, beat) in opening.early()
    opening.links.close()


def test_a_connection_that_ends_before_the_agent_has_started() -> None:
    opening = Opening(1)
    opening.hosts[0].on[orders.StartAgent] = lambda channel, _: channel.hang_up()
    with pytest.raises(ClusterctlError, match="h0: the connection ended before the agent started"):
        opening.startup.carry_out()
    assert opening.startup.ordered == {0}
    opening.links.close()


def test_who_wants_an_end_gets_it_before_anything_is_ordered() -> None:
    opening = Opening(2, halted=True)
    with pytest.raises(Halted):
        opening.startup.carry_out()
    assert not [o for host in opening.hosts for o in host.orders if isinstance(o, orders.StartAgent)]
    assert opening.startup.ordered == set()
    opening.links.close()


def tree(tmp_path: Path) -> Any:
    (tmp_path / "t.py").write_text("print()\n")
    return scan(tmp_path)


def test_code_goes_to_hosts_that_lack_it_and_to_no_other(tmp_path: Path) -> None:
    opening = Opening(2, tree=tree(tmp_path))
    lacking, holding = opening.hosts

    def unpacks(channel: FakeChannel, order: orders.Archive) -> None:
        if order.data:
            deadline = time.monotonic() + 30
            while (
                not any(" h0:" in text or "unpack" in text for text in opening.display.awaited)
                and time.monotonic() < deadline
            ):
                time.sleep(0.01)
        if order.end:
            channel.say(relay.Unpacked())

    checked = relay.Checked(in_place=False, snapshot=False)
    lacking.on[orders.Check] = lambda channel, _: channel.say(checked)
    lacking.on[orders.Archive] = unpacks
    checked_there = relay.Checked(in_place=True, snapshot=False)
    holding.on[orders.Check] = lambda channel, _: channel.say(checked_there)
    opening.startup.carry_out()
    told = {text.partition(":")[0] for text in opening.display.awaited}
    assert "copying code to h0" in told or any(text.startswith("waiting for h0 to unpack") for text in told)
    assert not [order for order in holding.orders if isinstance(order, orders.Archive)]
    (job,) = [order.job for order in holding.orders if isinstance(order, orders.StartAgent)]
    assert job.cwd == opening.plan.code.root
    (job,) = [order.job for order in lacking.orders if isinstance(order, orders.StartAgent)]
    assert job.cwd is None
    opening.links.close()


def test_one_hosts_trouble_with_the_code_ends_the_start(tmp_path: Path) -> None:
    opening = Opening(2, tree=tree(tmp_path))
    full = relay.Failed(what="archive", reason="No space left on device")
    opening.hosts[1].on[orders.Check] = lambda channel, _: channel.say(full)
    with pytest.raises(ClusterctlError, match="h1: cannot store the code there: No space"):
        opening.startup.carry_out()
    assert opening.links.nodes == set()
    opening.links.close()


def test_a_fault_while_code_is_copied_ends_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: Any, **__: Any) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr("clusterctl.run.delivery.deliver", fault)
    opening = Opening(1, tree=tree(tmp_path))
    with pytest.raises(ZeroDivisionError):
        opening.startup.carry_out()
    opening.links.close()

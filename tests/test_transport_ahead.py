"""Sessions begun before anybody asks for them go to whoever does, and are closed where nobody does."""

from __future__ import annotations

import threading
import time
from typing import ClassVar, cast

import pytest

from clusterctl.settings import SSH
from clusterctl.transport.base import BaseTransport, OwnChannel
from clusterctl.transport.protocol import Channel, Failure


class Opened:
    """A channel of which only its deadline and its end matter."""

    host = "a"
    ended = False
    exit_code: int | None = None

    def __init__(self) -> None:
        self.deadline = 0.0
        self.closed = threading.Event()

    def renew(self, deadline: float) -> None:
        self.deadline = deadline

    def close(self) -> None:
        self.closed.set()

    def join(self, timeout: float) -> bool:
        return self.closed.wait(timeout)


class Hosts(BaseTransport):
    descriptors_per_host: ClassVar[int] = 1

    def __init__(self, **hosts: Opened | Failure | Exception) -> None:
        super().__init__(None)
        self.hosts = hosts
        self.logins: list[str] = []
        self.may_open = threading.Event()

    def _open(self, host: str, command: str, deadline: float) -> OwnChannel | Failure:
        self.logins.append(host)
        assert self.may_open.wait(60)
        found = self.hosts[host]
        if isinstance(found, Exception):
            raise found
        return cast("OwnChannel | Failure", found)

    def _close_gateways(self) -> None:
        pass


def soon() -> float:
    return time.monotonic() + 60


def test_who_asks_gets_what_was_begun_under_a_deadline_of_its_own() -> None:
    down = Failure(host="b", stage="connect", message="down")
    hosts = Hosts(a=Opened(), b=down)
    hosts.open_ahead(["a", "b"], "true", soon())
    hosts.may_open.set()
    deadline = soon()
    got = dict(hosts.open_all(["a", "b"], "true", deadline))
    assert got["a"] is cast(Channel, hosts.hosts["a"])
    assert cast(Opened, got["a"]).deadline == deadline
    assert isinstance(got["b"], Failure)
    assert got["b"].message == "down"
    assert sorted(hosts.logins) == ["a", "b"]
    # Once only: a second session is a login of its own, and so is another command.
    hosts.open("b", "true", soon())
    hosts.open("b", "false", soon())
    assert sorted(hosts.logins) == ["a", "b", "b", "b"]


def test_a_session_that_waits_is_used_again_unless_its_command_may_be_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting, over, old, new = Opened(), Opened(), Opened(), Opened()
    hosts = Hosts(a=new)
    hosts.may_open.set()
    hosts.keep(cast(Channel, waiting), "true")
    assert hosts.open("a", "true", soon()) is cast(Channel, waiting)
    over.exit_code = 142  # ended by its own alarm, and what the shell said of that nobody has read
    hosts.keep(cast(Channel, over), "true")
    assert hosts.open("a", "true", soon()) is cast(Channel, new)
    hosts.keep(cast(Channel, old), "true")
    at = time.monotonic() + SSH.kept_for + 1
    monkeypatch.setattr(time, "monotonic", lambda: at)
    assert hosts.open("a", "true", at) is cast(Channel, new)
    assert (waiting.closed.is_set(), over.closed.is_set(), old.closed.is_set()) == (False, True, True)


def test_what_nobody_asks_for_is_closed_also_when_it_comes_too_late() -> None:
    ready, late = Opened(), Opened()
    hosts = Hosts(a=ready, b=late)
    hosts.may_open.set()
    hosts.open_ahead(["a"], "true", soon())
    while not hosts._channels:
        time.sleep(0.001)
    hosts.may_open.clear()
    hosts.open_ahead(["b"], "true", soon())
    hosts.close()
    assert ready.closed.is_set()
    assert not late.closed.is_set()
    hosts.may_open.set()
    assert late.closed.wait(60)


def test_an_error_is_raised_where_the_session_is_asked_for() -> None:
    hosts = Hosts(a=ValueError("a fault of ours"))
    hosts.may_open.set()
    hosts.open_ahead(["a"], "true", soon())
    with pytest.raises(ValueError, match="a fault of ours"):
        hosts.open("a", "true", soon())

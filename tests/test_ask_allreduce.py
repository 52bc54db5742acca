"""The controller's part of an all-reduce, with hosts played by the test: who is told what, when it ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import msgspec
import pytest

from clusterctl.ask import allreduce
from clusterctl.ask.allreduce import Backend, all_reduce
from clusterctl.facts.e2e import AllReduce
from clusterctl.messages.proving import Join, Leave, RankNews, RanksTold
from clusterctl.plan.group import Group, Member
from clusterctl.plan.model import RunVariables
from clusterctl.settings import PROOF

GROUP = Group(
    members=tuple(
        Member(
            host=host,
            address=f"10.0.0.{rank}",
            variables=RunVariables(
                address=f"10.0.0.{rank}",
                python="/venv/bin/python",
                env={"GLOO_SOCKET_IFNAME": f"eth{rank}"},
            ),
        )
        for rank, host in enumerate("abc", 1)
    ),
    master_addr="10.0.0.1",
    master_port=29500,
)
DONE = RankNews(stage="reduced", done=True)
OPEN = RankNews(stage="store", port=29500, state="waits")


class Players:
    """In the place of a FactCollector. ``plays(host, how many have joined)`` is a host's news by then."""

    def __init__(self, plays: Callable[[str, int], RankNews], deaf: str = "", mute: str = "") -> None:
        self.sent: list[tuple[str, msgspec.Struct]] = []
        self._plays = plays
        self._deaf = deaf
        self._mute = mute

    def send(self, host: str, message: msgspec.Struct) -> bool:
        self.sent.append((host, message))
        return host != self._deaf

    def hear(
        self,
        kind: type[msgspec.Struct],
        done: Callable[[Mapping[str, RanksTold]], bool],
        deadline: float,
    ) -> None:
        joined = {host: message.group for host, message in self.sent if isinstance(message, Join)}
        done(
            {
                host: RanksTold(group=group, ranks=(self._plays(host, len(joined)),))
                for host, group in joined.items()
                if host not in (self._deaf, self._mute)
            }
        )

    def alive(self, hosts: Sequence[str]) -> tuple[str, ...]:
        return tuple(host for host in hosts if host != self._mute)

    def awaiting(self, what: str, hosts: Sequence[str]) -> None:
        assert what == "ranks"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = dataclasses.replace(PROOF, still=0.2, failed=0.1, tick=0.01, alive_interval=0.1)
    monkeypatch.setattr(allreduce, "PROOF", quick)


def healthy(host: str, joined: int) -> RankNews:
    return DONE if joined == 3 else OPEN


def tried(players: Players) -> AllReduce:
    return all_reduce(players, GROUP, Backend(reuse=True))  # type: ignore[arg-type]


def test_rank_0_opens_its_store_before_anybody_joins_and_all_leave() -> None:
    players = Players(healthy)
    found = tried(players)
    assert [(host, type(message)) for host, message in players.sent] == [
        *((host, Join) for host in "abc"),
        *((host, Leave) for host in "abc"),
    ]
    assert all(rank.done for rank in found.ranks)
    (_, order) = players.sent[1]
    assert isinstance(order, Join)
    (rank,) = order.ranks
    assert (rank.rank, rank.world, rank.master_port) == (1, 3, 29500)
    assert rank.env["GLOO_SOCKET_IFNAME"] == "eth2"
    assert (rank.env["RANK"], rank.env["WORLD_SIZE"], rank.env["MASTER_ADDR"]) == ("1", "3", "10.0.0.1")


def test_any_free_port_is_the_one_that_rank_0_says() -> None:
    opened = RankNews(stage="store", port=41234)
    players = Players(lambda host, joined: DONE if joined == 3 else opened)
    found = all_reduce(players, msgspec.structs.replace(GROUP, master_port=0), Backend())  # type: ignore[arg-type]
    assert found.master_port == 41234
    (_, order) = players.sent[2]
    assert isinstance(order, Join)
    assert order.ranks[0].env["MASTER_PORT"] == "41234"


def test_where_the_store_cannot_be_opened_nobody_else_begins() -> None:
    players = Players(lambda host, joined: RankNews(stage="begun", error="EADDRINUSE"))
    found = tried(players)
    assert [host for host, message in players.sent if isinstance(message, Join)] == ["a"]
    assert [rank.error for rank in found.ranks] == ["EADDRINUSE", "", ""]


def test_it_is_given_up_when_all_that_is_left_stands_still() -> None:
    def plays(host: str, joined: int) -> RankNews:
        return RankNews(stage="begun", state="stopped") if host == "b" else OPEN

    found = tried(Players(plays))
    assert [(rank.stage, rank.state) for rank in found.ranks] == [
        ("store", "waits"),
        ("begun", "stopped"),
        ("store", "waits"),
    ]


def test_who_gets_on_is_waited_for_until_the_timeout_only() -> None:
    players = Players(lambda host, joined: RankNews(stage="store", port=29500, state="works"))
    found = all_reduce(players, GROUP, Backend(), timeout=1.0)  # type: ignore[arg-type]
    assert found.seconds >= 1.0
    assert {rank.state for rank in found.ranks} == {"works"}


@pytest.mark.parametrize("how", ["deaf", "mute"])
def test_a_host_that_is_gone_is_silent(how: str) -> None:
    deaf, mute = ("b", "") if how == "deaf" else ("", "b")
    found = tried(Players(lambda host, joined: OPEN, deaf=deaf, mute=mute))
    assert [rank.state for rank in found.ranks] == ["waits", "silent", "waits"]
    assert found.ranks[1].stage == ""

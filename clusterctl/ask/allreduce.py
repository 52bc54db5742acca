"""One real all-reduce of ranks on several hosts, in the sessions of the examination: who came how far."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import count

import msgspec

from clusterctl.ask.collector import FactCollector
from clusterctl.facts.e2e import AllReduce, Rank
from clusterctl.messages.proving import Join, Leave, RankNews, RankOrder, RanksTold
from clusterctl.plan.group import Group, Member
from clusterctl.settings import PROOF

_numbers = count()


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """How the ranks talk, and which devices of each host take part: one rank a device. ``reuse`` the process
    that has imported torch already."""

    name: str = "gloo"
    devices: Mapping[str, tuple[str, ...]] = {}
    env: Mapping[str, str] = {}
    sizes: tuple[int, ...] = ()
    reuse: bool = False

    def of(self, host: str) -> tuple[str, ...]:
        return self.devices.get(host, ("cpu",))


def all_reduce(
    collector: FactCollector, group: Group, backend: Backend, *, timeout: float = 0.0
) -> AllReduce:
    """One trial, see `all_reduces`."""
    (found,) = all_reduces(collector, (group,), backend, timeout=timeout)
    return found


def all_reduces(
    collector: FactCollector, groups: Sequence[Group], backend: Backend, *, timeout: float = 0.0
) -> tuple[AllReduce, ...]:
    """Groups that share no host, side by side. In each rank 0 opens the store, then all others join. Nothing
    of it stays on a host.

    Whoever gets on is waited for. It is over when nobody gets on any more, at the latest after ``timeout``.
    """
    trials = [_Trial(collector, group, backend, timeout or PROOF.timeout) for group in groups]
    try:
        for trial in trials:
            trial.begin()
        _follow(collector, trials)
    finally:
        for trial in trials:
            trial.leave()
        collector.awaiting("ranks", ())
    return tuple(trial.outcome() for trial in trials)


def _follow(collector: FactCollector, trials: Sequence[_Trial]) -> None:
    """Until each trial is over."""

    def heard(told: Mapping[str, RanksTold]) -> bool:
        return True in [trial.take(told) for trial in trials]

    asked = time.monotonic()
    while left := [trial for trial in trials if not trial.is_over()]:
        unfinished = [host for trial in left for host in trial.unfinished()]
        collector.awaiting("ranks", unfinished)
        collector.hear(RanksTold, heard, time.monotonic() + PROOF.tick)
        if time.monotonic() - max(asked, *(trial.changed for trial in left)) > PROOF.alive_interval:
            alive = {*collector.alive(unfinished)}
            for trial in left:
                trial.silent |= {*trial.unfinished()} - alive
            asked = time.monotonic()


class _Trial:
    def __init__(self, collector: FactCollector, group: Group, backend: Backend, timeout: float) -> None:
        self.changed = self._began = time.monotonic()
        self.silent: set[str] = set()
        self._port = group.master_port
        self._collector = collector
        self._group = group
        self._backend = backend
        self._number = next(_numbers)
        self._timeout = timeout
        self._ended: float | None = None
        self._firsts: dict[str, int] = {}
        self._joined: list[str] = []
        self._known: dict[str, tuple[RankNews, ...]] = {}
        world = 0
        for member in group.members:
            self._firsts[member.host] = world
            world += len(backend.of(member.host))
        self._world = world

    def begin(self) -> None:
        if self._group.members:
            self._join(self._group.members[:1])

    def outcome(self) -> AllReduce:
        group = self._group
        return AllReduce(
            backend=self._backend.name,
            ranks=self._ranks(),
            master_addr=group.master_addr,
            master_port=self._port or None,
            left_out=group.left_out,
            skipped=group.skipped,
            blocked=group.blocked,
            seconds=round((self._ended or time.monotonic()) - self._began, 3),
        )

    def take(self, told: Mapping[str, RanksTold]) -> bool:
        """What is news here; True when it brought this to an end, or others may join now."""
        for host in self._joined:
            answer = told.get(host)
            if answer and answer.group == self._number and self._known.get(host) != answer.ranks:
                self._known[host] = answer.ranks
                self.changed = time.monotonic()
        if len(self._joined) == 1 and len(self._group.members) > 1 and self._store_open():
            self._join(self._group.members[1:])
        return self._ended is None and not self.unfinished()

    def unfinished(self) -> list[str]:
        """Hosts whose ranks have not all come to an end."""
        return [
            host
            for host in self._joined
            if host not in self.silent
            and not all(
                each.done or each.error or each.ended for each in self._known.get(host, (RankNews(),))
            )
        ]

    def is_over(self) -> bool:
        if self._ended is None and (not self.unfinished() or self._is_late() or self._stands_still()):
            self._ended = time.monotonic()
        return self._ended is not None

    def _is_late(self) -> bool:
        return time.monotonic() - self._began > self._timeout

    def _ranks(self) -> tuple[Rank, ...]:
        found = []
        for member in self._group.members:
            devices = self._backend.of(member.host)
            news = self._known.get(member.host) or (RankNews(),) * len(devices)
            for local, (device, each) in enumerate(zip(devices, news, strict=False)):
                known = msgspec.structs.asdict(each)
                known.pop("port")
                if member.host in self.silent and not each.done:
                    known["state"] = "silent"
                rank = self._firsts[member.host] + local
                found.append(Rank(host=member.host, rank=rank, device=device, **known))
        return tuple(found)

    def leave(self) -> None:
        for host in self._joined:
            self._collector.send(host, Leave(group=self._number))

    def _join(self, members: Sequence[Member]) -> None:
        for member in members:
            self._joined.append(member.host)
            if not self._collector.send(member.host, self._order(member)):
                self.silent.add(member.host)
        self.changed = time.monotonic()

    def _order(self, member: Member) -> Join:
        devices, first = self._backend.of(member.host), self._firsts[member.host]
        return Join(
            group=self._number,
            python=member.variables.python,
            reuse=self._backend.reuse,
            ranks=tuple(
                RankOrder(
                    rank=first + local,
                    world=self._world,
                    backend=self._backend.name,
                    device=device,
                    master_addr=self._group.master_addr,
                    master_port=self._port,
                    env={
                        **member.variables.env,
                        **self._backend.env,
                        "MASTER_ADDR": self._group.master_addr,
                        "MASTER_PORT": str(self._port),
                        "RANK": str(first + local),
                        "WORLD_SIZE": str(self._world),
                        "LOCAL_RANK": str(local),
                        "LOCAL_WORLD_SIZE": str(len(devices)),
                    },
                    removed=member.variables.removed,
                    sizes=self._backend.sizes,
                    timeout=self._timeout + PROOF.end_timeout,
                )
                for local, device in enumerate(devices)
            ),
        )

    def _store_open(self) -> bool:
        news = self._known.get(self._group.members[0].host)
        if news and news[0].port:
            self._port = news[0].port
        return bool(news and news[0].stage not in ("", "begun"))

    def _stands_still(self) -> bool:
        """Whether each rank that is not through stands still, and has for a while: none hears of another."""
        failed = any(each.error or each.ended for news in self._known.values() for each in news)
        if time.monotonic() - self.changed < (PROOF.failed if failed else PROOF.still):
            return False
        return all(
            each.done or each.error or each.ended or each.state != "works"
            for host in self.unfinished()
            for each in self._known.get(host, (RankNews(),))
        )

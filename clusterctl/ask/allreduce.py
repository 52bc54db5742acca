"""One real all-reduce of ranks on several hosts, in the sessions of the examination: who came how far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from clusterctl.ask.collector import FactCollector
from clusterctl.facts.e2e import AllReduce, Rank
from clusterctl.messages.examination import Join, Leave, RankNews, RankOrder, RanksTold
from clusterctl.plan.group import Group, Member
from clusterctl.settings import PROOF


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
    collector: FactCollector, group: Group, backend: Backend, *, number: int = 0, timeout: float = 0.0
) -> AllReduce:
    """Rank 0 opens the store, then all others join. Nothing of it stays on a host.

    Whoever gets on is waited for. It is over when nobody gets on any more, at the latest after ``timeout``.
    """
    began = time.monotonic()
    if not group.members:
        return AllReduce(
            backend=backend.name, skipped=group.skipped, blocked=group.blocked, left_out=group.left_out
        )
    trial = _Trial(collector, group, backend, number, timeout or PROOF.timeout)
    try:
        trial.run()
    finally:
        trial.leave()
    return AllReduce(
        backend=backend.name,
        ranks=trial.ranks(),
        master_addr=group.master_addr,
        master_port=trial.port or None,
        left_out=group.left_out,
        seconds=round(time.monotonic() - began, 3),
    )


class _Trial:
    def __init__(
        self, collector: FactCollector, group: Group, backend: Backend, number: int, timeout: float
    ) -> None:
        self.port = group.master_port
        self._collector = collector
        self._group = group
        self._backend = backend
        self._number = number
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._firsts: dict[str, int] = {}
        self._silent: set[str] = set()
        self._joined: list[str] = []
        self._known: dict[str, tuple[RankNews, ...]] = {}
        self._changed = time.monotonic()
        world = 0
        for member in group.members:
            self._firsts[member.host] = world
            world += len(backend.of(member.host))
        self._world = world

    def run(self) -> None:
        first, *others = self._group.members
        self._join((first,))
        self._wait(lambda: self._store_open() or not self._unfinished())
        if self._store_open():
            self._join(others)
            self._wait(lambda: not self._unfinished())

    def ranks(self) -> tuple[Rank, ...]:
        found = []
        for member in self._group.members:
            devices = self._backend.of(member.host)
            news = self._known.get(member.host) or (RankNews(),) * len(devices)
            for local, (device, each) in enumerate(zip(devices, news, strict=False)):
                known = msgspec.structs.asdict(each)
                known.pop("port")
                if member.host in self._silent and not each.done:
                    known["state"] = "silent"
                rank = self._firsts[member.host] + local
                found.append(Rank(host=member.host, rank=rank, device=device, **known))
        return tuple(found)

    def leave(self) -> None:
        for host in self._joined:
            self._collector.send(host, Leave(group=self._number))
        self._collector.awaiting("ranks", ())

    def _join(self, members: Sequence[Member]) -> None:
        for member in members:
            self._joined.append(member.host)
            if not self._collector.send(member.host, self._order(member)):
                self._silent.add(member.host)
        self._changed = time.monotonic()

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
                    master_port=self.port,
                    env={
                        **member.variables.env,
                        **self._backend.env,
                        "MASTER_ADDR": self._group.master_addr,
                        "MASTER_PORT": str(self.port),
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
            self.port = news[0].port
        return bool(news and news[0].stage not in ("", "begun"))

    def _unfinished(self) -> list[str]:
        return [
            host
            for host in self._joined
            if host not in self._silent
            and not all(
                each.done or each.error or each.ended for each in self._known.get(host, (RankNews(),))
            )
        ]

    def _wait(self, done: Callable[[], bool]) -> None:
        """Until ``done``, the deadline, or nobody has got on for a while and nobody wants to."""

        def heard(told: Mapping[str, RanksTold]) -> bool:
            self._take(told)
            return done()

        asked = time.monotonic()
        while not done() and time.monotonic() < self._deadline:
            self._collector.awaiting("ranks", self._unfinished())
            self._collector.hear(RanksTold, heard, min(self._deadline, time.monotonic() + PROOF.tick))
            if self._is_over():
                return
            if time.monotonic() - max(asked, self._changed) > PROOF.alive_interval:
                unfinished = self._unfinished()
                self._silent |= {*unfinished} - {*self._collector.alive(unfinished)}
                asked = time.monotonic()

    def _take(self, told: Mapping[str, RanksTold]) -> None:
        for host in self._joined:
            answer = told.get(host)
            if answer and answer.group == self._number and self._known.get(host) != answer.ranks:
                self._known[host] = answer.ranks
                self._changed = time.monotonic()

    def _is_over(self) -> bool:
        """Whether each rank that is not through stands still, and has for a while: none hears of another."""
        failed = any(each.error or each.ended for news in self._known.values() for each in news)
        if time.monotonic() - self._changed < (PROOF.failed if failed else PROOF.still):
            return False
        unfinished = self._unfinished()
        return bool(unfinished) and all(
            each.done or each.error or each.ended or each.state != "works"
            for host in unfinished
            for each in self._known.get(host, (RankNews(),))
        )

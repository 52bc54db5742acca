"""`clusterctl top` and a host that stays away: it is asked again, and nothing piles up meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from clusterctl.ask import top
from clusterctl.transport.protocol import Failure


class Nowhere:
    """A transport to hosts that nobody reaches."""

    def __init__(self) -> None:
        self.asked = 0

    def open_all(self, hosts: Sequence[str], command: str, deadline: float) -> Iterator[tuple[str, Failure]]:
        self.asked += 1
        return iter([(host, Failure(host=host, stage="connect", message="no route")) for host in hosts])


def test_a_host_that_stays_away_is_asked_again_and_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(top, "_AGAIN", 0.0)
    monkeypatch.setattr(top, "_LOOK", 0.01)
    link: Any = Nowhere()
    watch = top.TopWatch(link, ["node1"], 1.0)
    told: list[tuple[str, Any]] = []
    while link.asked < 6:
        told += watch.news(0.05)
    assert set(told) == {("node1", "no route")}
    assert len(watch._pools) <= 2
    watch.close()

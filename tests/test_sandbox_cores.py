"""How a sandbox deals this machine's cores out to its hosts."""

from __future__ import annotations

import os

import pytest

from clusterctl.sandbox.cores import shares


@pytest.mark.parametrize(("cores", "hosts"), [(2, 1), (2, 2), (2, 5), (8, 3), (7, 2), (1, 4)])
def test_every_host_has_a_core_and_every_core_a_host(
    monkeypatch: pytest.MonkeyPatch, cores: int, hosts: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(10, 10 + cores)))
    dealt = shares(hosts)
    sizes = [len(share) for share in dealt]
    assert len(dealt) == hosts
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    flat = [core for share in dealt for core in share]
    assert set(flat) == set(range(10, 10 + cores))
    assert len(flat) == max(cores, hosts)

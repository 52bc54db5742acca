"""The fault matrix on real hosts: each fault on its host, nothing else, and odd hosts pass clean."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clusterctl.sandbox import Sandbox
from tests.busy import all_cores_busy
from tests.faults import real
from tests.faults.clusters import ClusterRow
from tests.faults.hosts import EVERY

pytestmark = pytest.mark.sandbox

OFTEN = {
    "system",
    "software",
    "odd sessions",
    "two on one host",
    "a host is down while another has a firewall",
}
"""What `make test` tries; `make test-all` tries every row, and some of them with all cores taken."""
WITHOUT_TIME = {"sessions", "odd sessions", "a firewall, a version drift and a slow resolver"}


def row(cluster: ClusterRow, often: set[str]) -> object:
    marks = [] if cluster.name in often else [pytest.mark.long]
    return pytest.param(cluster, id=cluster.name, marks=marks)


@pytest.mark.parametrize("cluster", [row(each, OFTEN) for each in EVERY])
def test_what_is_said_is_what_is_wrong(cluster: ClusterRow, make_sandbox: Callable[..., Sandbox]) -> None:
    assert [str(each) for each in real.outcomes(cluster, make_sandbox) if not each.right] == []


@pytest.mark.long
@pytest.mark.parametrize("cluster", [row(each, set()) for each in EVERY if each.name in WITHOUT_TIME])
def test_it_is_the_same_when_all_cores_are_busy(
    cluster: ClusterRow, make_sandbox: Callable[..., Sandbox]
) -> None:
    with all_cores_busy():
        found = list(real.outcomes(cluster, make_sandbox))
    assert [str(each) for each in found if not each.right] == []


def test_a_proxys_password_is_in_no_report(make_sandbox: Callable[..., Sandbox]) -> None:
    from tests.faults.hosts_single import SOFTWARE

    (proxied,) = [each for each in SOFTWARE if each.codes == "sw.proxy"]
    cluster = ClusterRow(name="proxy", machines={"a": proxied.machine})
    report = real.doctor(real.build(cluster, make_sandbox), "--quick")
    assert "https_proxy" in str(report)
    assert "secret" not in str(report)

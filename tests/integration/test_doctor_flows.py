"""Links that are slow or lose packets, on real hosts: named on their host, with all cores busy as well."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from clusterctl.checks.evaluate import Report
from clusterctl.sandbox import HostSpec, Sandbox
from clusterctl.session.cluster import Cluster
from tests.busy import all_cores_busy

pytestmark = [pytest.mark.sandbox, pytest.mark.long]

MakeSandbox = Callable[..., Sandbox]


@pytest.fixture(params=["busy", "idle"])
def load(request: pytest.FixtureRequest) -> Iterator[None]:
    """With "busy", four processes that take all the time there is."""
    with all_cores_busy() if request.param == "busy" else contextlib.nullcontext():
        yield


def judged(box: Sandbox) -> Report:
    return Cluster.from_hostfile(box.hostfile, ssh_config=box.ssh_config).examine(torch=False).report


def above_a_note(report: Report) -> dict[str, tuple[str, ...]]:
    return {each.code: each.hosts for each in report.findings if each.severity != "info"}


def hosts(*names: str) -> list[HostSpec]:
    return [HostSpec(name) for name in names]


@pytest.mark.usefixtures("load")
def test_links_that_are_quick_are_clean_time_and_again(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=hosts(*"abcdef"))
    for _ in range(4):
        assert above_a_note(judged(box)) == {}


@pytest.mark.usefixtures("load")
def test_a_link_of_5_mbits_is_named(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=hosts("a", "b", "c"))
    box.host("b").limit_bandwidth("eth0", "5mbit")
    report = judged(box)
    assert above_a_note(report) == {"net.tcp-slow": ("b",)}
    assert report.verdict == "ready"


@pytest.mark.usefixtures("load")
def test_a_host_that_loses_what_is_sent_to_it_is_named(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=hosts("a", "b", "c"))
    lossy = ["-m", "statistic", "--mode", "random", "--probability", "0.08", "-j", "DROP"]
    box.host("b").admin(["iptables", "-A", "INPUT", *lossy])
    assert above_a_note(judged(box)) == {"net.loss": ("b",)}


def test_of_two_hosts_the_one_that_lets_nothing_out_is_told_by_its_kernel(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=hosts("a", "b"))
    box.host("b").block("out", "drop", (1024, 65535))
    assert above_a_note(judged(box)) == {"net.backconnect": ("b",)}
    box.host("b").unblock()
    box.host("b").block("in", "drop", (1024, 65535))
    assert above_a_note(judged(box)) == {"net.backconnect": ("b",)}

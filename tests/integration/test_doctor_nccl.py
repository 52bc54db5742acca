"""The real libnccl, asked on real hosts under the variables of the run, and dialled by every peer."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator

import pytest

from clusterctl.checks.finding import Finding
from clusterctl.sandbox import HostSpec, Nic, Sandbox
from clusterctl.sandbox.host import VirtualHost
from clusterctl.session.cluster import Cluster
from clusterctl.session.examine import Examination
from tests.busy import all_cores_busy
from tests.nccl_zoos import library

pytestmark = [pytest.mark.sandbox, pytest.mark.long]

MakeSandbox = Callable[..., Sandbox]
CODE = "net.nccl-pick"


@pytest.fixture(params=["busy", "idle"])
def load(request: pytest.FixtureRequest) -> Iterator[None]:
    """With "busy", four processes that take all the time there is."""
    with all_cores_busy() if request.param == "busy" else contextlib.nullcontext():
        yield


def with_libnccl(box: Sandbox, *names: str, version: str = "2.27.5") -> dict[str, str]:
    """It lies in the homes of these hosts; the variables with which it is found there."""
    for name in names:
        folder = box.host(name).home / "nccl"
        folder.mkdir()
        try:
            os.link(library(version), folder / "libnccl.so.2")
        except OSError:
            shutil.copy(library(version), folder / "libnccl.so.2")
    return {"LD_LIBRARY_PATH": f"{box.hosts[0].environment()['HOME']}/nccl"}


def examined(box: Sandbox, **env: str) -> Examination:
    cluster = Cluster.from_hostfile(box.hostfile, ssh_config=box.ssh_config)
    return cluster.examine(env=env, torch=False)


def holds_libnccl(host: VirtualHost) -> bool:
    for pid in host.pids():
        with contextlib.suppress(OSError):
            if b"libnccl" in (host.root / f"proc/{pid}/maps").read_bytes():
                return True
    return False


def findings(seen: Examination, *severities: str) -> list[Finding]:
    return [each for each in seen.report.findings if each.code == CODE and each.severity in severities]


@pytest.mark.usefixtures("load")
@pytest.mark.parametrize("version", ["2.20.5", "2.27.5", "2.32.3"])
def test_it_takes_the_chosen_address_and_everybody_reaches_its_port(
    make_sandbox: MakeSandbox, version: str
) -> None:
    box = make_sandbox(hosts=[HostSpec(name) for name in "abc"])
    for host in box.hosts:
        host.add_decoy_bridge("docker0", "172.17.0.1/16", carrier=True)
    env = with_libnccl(box, "a", "b", version=version)
    seen = examined(box, **env)
    picks = {host: facts.nccl for host, facts in seen.answers.facts.items()}
    for name in "ab":
        pick = picks[name]
        assert pick is not None and pick.version == version
        assert pick.address == seen.network.of(name).address  # type: ignore[union-attr]
        assert pick.library.endswith("/nccl/libnccl.so.2")
    assert picks["c"] is not None and picks["c"].missing
    dials = [dial for dial in seen.answers.reachability.dials if dial.kind == "nccl"]
    edges = {(dial.source, dial.target): dial.result for dial in dials}
    assert edges == dict.fromkeys([("a", "b"), ("b", "a"), ("c", "a"), ("c", "b")], "ok")
    assert not findings(seen, "fail", "warn", "unknown")
    statuses = {host: each.status for each in seen.report.checks if each.code == CODE for host in each.hosts}
    assert statuses == {"a": "pass", "b": "pass", "c": "skip"}
    assert seen.report.verdict == "ready"
    for host in box.hosts:
        while holds_libnccl(host):  # the session's end takes its processes with it, in its own time
            time.sleep(0.05)


@pytest.mark.usefixtures("load")
def test_a_prefix_of_the_users_that_fits_a_card_with_a_firewall_is_told(make_sandbox: MakeSandbox) -> None:
    """Traffic passes on eth1 alone, which is chosen; the user's "eth" makes NCCL take eth0."""
    box = make_sandbox(hosts=[HostSpec(name, nics=(Nic("eth0"), Nic("eth1", "fast"))) for name in "abc"])
    closed = ["-i", "eth0", "-p", "tcp", "--syn", "--dport", "1024:65535", "-j", "DROP"]
    box.host("b").admin(["iptables", "-A", "INPUT", *closed])
    seen = examined(box, **with_libnccl(box, *"abc"), NCCL_SOCKET_IFNAME="eth")
    assert [entry.ifname for entry in seen.network.hosts] == ["eth1"] * 3
    (finding,) = findings(seen, "fail")
    assert finding.hosts == ("a", "b", "c")
    taken = (
        f"NCCL 2.27.5 would take eth0, {box.host('a').address('eth0')}, with NCCL_SOCKET_IFNAME=eth (--env)"
    )
    assert finding.observed.startswith(taken)


def test_a_libnccl_that_is_broken_is_unknown_and_blames_no_network(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=[HostSpec(name) for name in "ab"])
    env = with_libnccl(box, "a")
    (box.host("b").home / "nccl").mkdir()
    (box.host("b").home / "nccl/libnccl.so.2").write_text("half a download")
    seen = examined(box, **env)
    assert {each.hosts for each in findings(seen, "unknown")} == {("b",)}
    assert seen.report.hosts == {"a": "ready", "b": "unknown"}

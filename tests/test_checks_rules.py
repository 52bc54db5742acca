"""Every rule: an alteration of a healthy cluster that makes it fire, and silence without it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from clusterctl.checks.evaluate import Report, evaluate
from clusterctl.checks.families import RULES
from clusterctl.checks.finding import Finding
from clusterctl.facts.gpu import Gpu, GpuProcess, NvidiaSmi
from clusterctl.facts.machine import Filesystem, Limits
from clusterctl.facts.model import Facts, Name, Variable
from clusterctl.facts.rdma import RdmaPort
from clusterctl.inventory.model import Host, HostfileWarning, Inventory
from clusterctl.network.choose import choose
from clusterctl.transport.protocol import Failure
from tests.builders import (
    GIB,
    IB_PORT,
    LOOPBACK,
    altered,
    cluster,
    everywhere,
    gpu,
    healthy,
    inventory,
    nic,
    nvidia,
)

Cluster = dict[str, Facts]


def report(facts: Cluster, *, slots: int = 1, **options: object) -> Report:
    hosts = options.pop("hosts", None) or inventory(facts, slots)
    network = choose(hosts, facts, settings=options.get("settings", {}))  # type: ignore[arg-type]
    return evaluate(hosts, facts, network=network, **options)  # type: ignore[arg-type]


def of(code: str, found: Report) -> list[Finding]:
    return [finding for finding in found.findings if finding.code == code and finding.severity != "info"]


def changed(**changes: object) -> Callable[[Cluster], Cluster]:
    return lambda facts: altered(facts, "node2", **changes)


def python_with(**changes: object) -> Callable[[Cluster], Cluster]:
    def alter(facts: Cluster) -> Cluster:
        return altered(facts, "node2", python=msgspec.structs.replace(facts["node2"].python, **changes))

    return alter


def packages(**versions: str) -> Callable[[Cluster], Cluster]:
    def alter(facts: Cluster) -> Cluster:
        python = facts["node2"].python
        merged = {name: version for name, version in {**python.packages, **versions}.items() if version}
        return altered(facts, "node2", python=msgspec.structs.replace(python, packages=merged))

    return alter


def torch_with(**changes: object) -> Callable[[Cluster], Cluster]:
    def alter(facts: Cluster) -> Cluster:
        torch = facts["node2"].torch
        assert torch
        return altered(facts, "node2", torch=msgspec.structs.replace(torch, **changes))

    return alter


def smi(**changes: object) -> Callable[[Cluster], Cluster]:
    def alter(facts: Cluster) -> Cluster:
        return altered(facts, "node2", nvidia=msgspec.structs.replace(facts["node2"].nvidia, **changes))

    return alter


def cards(**changes: object) -> Callable[[Cluster], Cluster]:
    return smi(gpus=(gpu(0, uuid="GPU-node2-0", **changes), gpu(1, uuid="GPU-node2-1")))


def disk(role: str, free: float, total: float = 500 * GIB, **changes: object) -> Callable[[Cluster], Cluster]:
    def alter(facts: Cluster) -> Cluster:
        kept = tuple(entry for entry in facts["node2"].filesystems if entry.role != role)
        path = {"shm": "/dev/shm", "tmp": "/tmp"}[role]
        entry = Filesystem(role=role, path=path, total=int(total), free=int(free), **changes)  # type: ignore[arg-type]
        return altered(facts, "node2", filesystems=(*kept, entry))

    return alter


def links(*interfaces: object, **changes: object) -> Callable[[Cluster], Cluster]:
    return changed(interfaces=(LOOPBACK, *interfaces), **changes)


def foreign(memory: int, command: str = "python other.py") -> tuple[GpuProcess, ...]:
    return (GpuProcess(4711, memory, "bob", command),)


def rdma_everywhere(*ports_of_node2: RdmaPort, **changes: object) -> Callable[[Cluster], Cluster]:
    def alter(facts: Cluster) -> Cluster:
        equipped = {
            host: msgspec.structs.replace(of_host, rdma=(IB_PORT,), verbs_library=True)
            for host, of_host in facts.items()
        }
        return altered(equipped, "node2", rdma=ports_of_node2, **changes)

    return alter


ONE_HOST = [
    # (code, severity, alteration of node2, GPUs per host)
    ("env.noninteractive", "fail", python_with(error="/opt/venv/bin/python: not found"), 0),
    ("env.noise", "warn", changed(noise="Welcome to the lab\n"), 0),
    ("host.name-clash", "warn", changed(hostname="node1"), 0),
    ("sw.python", "fail", python_with(version="3.10.2"), 0),
    ("sw.torch", "fail", packages(torch="2.4.0"), 0),
    ("sw.torch", "fail", packages(torch=""), 0),
    ("sw.torch", "fail", python_with(torch_cuda="11.8"), 2),
    ("sw.cpu-build", "fail", python_with(torch_cuda=""), 2),
    ("sw.torch-import", "fail", torch_with(ok=False, error="Traceback\nImportError: libcudart.so.12"), 0),
    ("sw.nccl-loaded", "fail", torch_with(nccl_version="2.18.1"), 2),
    ("sw.nccl-shadow", "warn", torch_with(nccl_path="/usr/lib/libnccl.so.2"), 2),
    ("sw.deepspeed", "fail", packages(deepspeed="0.14.0"), 0),
    ("sw.deepspeed", "fail", packages(deepspeed=""), 0),
    ("sw.transformers", "warn", packages(transformers="4.40.0"), 0),
    ("sw.driver", "warn", smi(kernel_driver="535.1"), 2),
    ("sw.kernel", "warn", changed(kernel="5.4.0-150-generic"), 0),
    ("host.slots", "fail", changed(nvidia=nvidia("node2", 1)), 2),
    ("host.slots", "fail", changed(nvidia=nvidia("node2", 0)), 2),
    ("gpu.smi", "fail", smi(exit_code=15, gpus=()), 2),
    ("gpu.smi", "fail", smi(present=False, exit_code=None, gpus=()), 2),
    ("gpu.smi-hang", "fail", smi(exit_code=None, gpus=()), 2),
    ("gpu.smi-hang", "warn", smi(seconds=9.0), 2),
    ("gpu.lib-mismatch", "fail", smi(error="Driver/library version mismatch", exit_code=18, gpus=()), 2),
    ("gpu.lib-mismatch", "fail", smi(kernel_driver="550.99"), 2),
    ("gpu.cuda", "fail", torch_with(cuda_available=False), 2),
    ("gpu.cuda", "fail", torch_with(device_count=1), 2),
    ("gpu.model", "warn", cards(name="NVIDIA L4", memory_total=24 * GIB), 2),
    ("gpu.busy", "fail", cards(processes=foreign(9 * GIB)), 2),
    ("gpu.busy", "warn", cards(processes=foreign(GIB // 4)), 2),
    ("gpu.busy", "fail", cards(memory_used=9 * GIB), 2),
    ("gpu.compute-mode", "fail", cards(compute_mode="Prohibited"), 2),
    ("gpu.mig", "warn", cards(mig_mode="Enabled"), 2),
    ("gpu.ecc", "fail", cards(ecc_errors=3), 2),
    ("os.shm", "fail", disk("shm", 8 * 1024**2, 16 * 1024**2), 0),
    ("os.shm", "fail", disk("shm", 60 * 1024**2, 64 * 1024**2), 2),
    ("os.shm", "warn", disk("shm", 512 * 1024**2, 512 * 1024**2), 2),
    ("os.shm-stale", "warn", changed(stale_shm=("/dev/shm/nccl-abc",)), 0),
    ("os.disk", "fail", disk("tmp", 0.5 * GIB), 0),
    ("os.disk", "warn", disk("tmp", 15 * GIB, 100 * GIB), 0),
    ("os.disk", "fail", disk("tmp", 300 * GIB, inodes_free_percent=1.0), 0),
    ("os.write", "fail", disk("tmp", 300 * GIB, writable=False), 0),
    ("os.nofile", "warn", changed(limits=Limits(nofile=256, stack=8 * 1024**2)), 0),
    ("time.skew", "warn", changed(clock_offset=-40.0), 0),
    ("ip.duplicate", "fail", links(nic("eth0", "10.0.0.3"), nic("eth1", "10.0.0.2")), 0),
    ("net.choice", "fail", links(nic("eth0", "192.168.77.1"), ssh_address="", default_device=""), 0),
    ("net.interfaces", "unknown", changed(interfaces=()), 0),
    ("net.carrier", "warn", links(nic("eth0", "10.0.0.3"), nic("eth1", "10.5.0.3", carrier=False)), 0),
    ("net.dual-subnet", "warn", links(nic("eth0", "10.0.0.3"), nic("eth1", "10.0.0.99")), 0),
    ("net.mtu", "warn", links(nic("eth0", "10.0.0.3", prefix=16, mtu=9000)), 0),
    ("net.speed", "warn", links(nic("eth0", "10.0.0.3", prefix=16, speed=100)), 0),
    ("net.speed", "warn", links(nic("eth0", "10.0.0.3", prefix=16, speed=1000)), 0),
    ("net.wireless-overlay", "warn", links(nic("wlan0", "10.0.0.3", prefix=16, kind="wireless")), 0),
    ("net.portrange", "warn", changed(port_range=(50000, 60000)), 0),
    ("net.portrange", "warn", changed(port_range=(50000, 50100)), 0),
    ("sw.nccl-env", "warn", changed(variables=(Variable("NCCL_P2P_DISABLE", "1", "environment"),)), 0),
    ("sw.nccl-env", "warn", changed(variables=(Variable("CUDA_VISIBLE_DEVICES", "0", "environment"),)), 2),
    ("sw.nccl-debug", "warn", changed(variables=(Variable("NCCL_DEBUG", "ERROR", "environment"),)), 0),
    (
        "sw.ds-env",
        "warn",
        changed(variables=(Variable("NCCL_SOCKET_IFNAME", "eth0", "/home/alice/.deepspeed_env:1"),)),
        0,
    ),
    (
        "net.gloo-name",
        "fail",
        changed(variables=(Variable("GLOO_SOCKET_IFNAME", "^lo", "environment"),)),
        0,
    ),
    (
        "net.ifname-user",
        "fail",
        changed(variables=(Variable("NCCL_SOCKET_IFNAME", "=eth7", "/etc/nccl.conf:1"),)),
        0,
    ),
    ("ib.present", "warn", rdma_everywhere(), 0),
    ("ib.state", "warn", rdma_everywhere(msgspec.structs.replace(IB_PORT, state="1: DOWN")), 0),
    ("ib.rate", "fail", rdma_everywhere(msgspec.structs.replace(IB_PORT, rate=100.0)), 0),
    (
        "ib.linklayer",
        "fail",
        rdma_everywhere(msgspec.structs.replace(IB_PORT, link_layer="Ethernet", netdev="eth0")),
        1,
    ),
    ("ib.libs", "fail", rdma_everywhere(IB_PORT, verbs_library=False), 1),
    ("ib.sm", "fail", rdma_everywhere(msgspec.structs.replace(IB_PORT, sm_lid=0)), 0),
    (
        "os.memlock",
        "fail",
        rdma_everywhere(IB_PORT, limits=Limits(memlock=65536, nofile=65536, stack=8 * 1024**2)),
        1,
    ),
    ("name.family", "warn", changed(names=(Name("node2", ("2001:db8::7",)),)), 0),
    ("os.stack", "warn", changed(limits=Limits(nofile=65536, stack=None)), 2),
    ("gpu.present", "unknown", changed(nvidia=NvidiaSmi()), 2),
    (
        "net.rp_filter",
        "warn",
        links(
            nic("eth0", "10.0.0.3", prefix=16, rp_filter=1), nic("eth1", "10.0.0.99", prefix=16, kind="veth")
        ),
        0,
    ),
    ("sw.accelerate", "warn", packages(accelerate=""), 0),
    ("sw.datasets", "warn", packages(datasets="2.0"), 0),
    ("sw.tokenizers", "warn", packages(tokenizers="0.1"), 0),
    ("os.shm", "unknown", changed(filesystems=()), 0),
    ("time.skew", "unknown", changed(clock_offset=None), 0),
    ("name.own", "unknown", changed(names=()), 0),
    ("sw.nccl-loaded", "unknown", torch_with(nccl_version=""), 2),
]


@pytest.mark.parametrize(
    ("code", "severity", "alter", "gpus"),
    ONE_HOST,
    ids=[f"{code}-{severity}-{number}" for number, (code, severity, *_) in enumerate(ONE_HOST)],
)
def test_a_rule_fires_on_the_altered_host(
    code: str, severity: str, alter: Callable[[Cluster], Cluster], gpus: int
) -> None:
    healthy_ones = cluster(3, gpus=gpus)
    assert not of(code, report(healthy_ones, slots=max(gpus, 1)))
    found = of(code, report(alter(healthy_ones), slots=max(gpus, 1)))
    assert [finding.severity for finding in found] == [severity]
    assert "node2" in found[0].hosts
    assert found[0].observed
    if severity in ("fail", "warn"):
        assert found[0].symptom, "a finding tells what it would lead to"
        assert found[0].fix or found[0].expected, "a finding tells what to do"


@pytest.mark.parametrize("gpus", [0, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 64])
def test_a_healthy_cluster_has_nothing_to_complain_about(count: int, gpus: int) -> None:
    found = report(cluster(count, gpus=gpus), slots=gpus or 1)
    assert [finding for finding in found.findings if finding.severity != "info"] == []
    assert found.verdict == "ready"
    assert found.ready == tuple(cluster(count))


def test_a_plain_lan_of_pcs_has_no_warning() -> None:
    """Gigabit, 1024 open files, 127.0.1.1 in /etc/hosts, kernels of several ages, docker, any NIC names."""
    facts = {}
    for number, (ifname, kernel) in enumerate(
        (("eno1", "6.1.0-18-amd64"), ("enp5s0", "6.8.0-31-generic"), ("eth0", "5.15.0-105-generic")), start=1
    ):
        facts[f"node{number}"] = healthy(
            number,
            kernel=kernel,
            interfaces=(
                LOOPBACK,
                nic("docker0", "172.17.0.1", kind="bridge", carrier=False, running=False, speed=None),
                nic(ifname, f"192.168.1.{number + 10}", speed=1000, index=number + 2),
            ),
            limits=Limits(nofile=1024, memlock=8 * 1024**2, stack=8 * 1024**2),
            names=(Name(f"node{number}", ("127.0.1.1",)),),
        )
    found = report(facts)
    assert [finding for finding in found.findings if finding.severity != "info"] == []
    assert found.verdict == "ready"


def test_a_cpu_cluster_says_so_once() -> None:
    found = report(cluster(4))
    (note,) = [finding for finding in found.findings if finding.code == "gpu.count"]
    assert note.severity == "info"
    assert note.hosts == ("node1", "node2", "node3", "node4")
    skipped = {check.code for check in found.checks if check.status == "skip"}
    assert {"gpu.smi", "gpu.busy", "sw.driver", "host.slots"} <= skipped


def test_equal_causes_are_one_finding_with_all_hosts() -> None:
    facts = cluster(5)
    for host in ("node2", "node4"):
        facts = altered(facts, host, clock_offset=-40.0)
    (finding,) = of("time.skew", report(facts))
    assert finding.hosts == ("node2", "node4")


def test_the_majority_is_what_is_expected() -> None:
    (finding,) = of("sw.torch", report(packages(torch="2.4.0")(cluster(4))))
    assert (finding.hosts, finding.observed) == (("node2",), "torch 2.4.0")
    assert finding.expected == "torch 2.5.1, as on 3 of 4 hosts"


def test_two_hosts_that_differ_are_both_named() -> None:
    (finding,) = of("sw.torch", report(packages(torch="2.4.0")(cluster(2))))
    assert finding.hosts == ("node1", "node2")
    assert "node1: 2.5.1" in finding.observed
    assert "node2: 2.4.0" in finding.observed


@pytest.mark.parametrize(
    ("expect", "fails"),
    [
        ({"torch": "2.5"}, False),
        ({"torch": "2.6"}, True),
        ({"python": "3.11"}, False),
        ({"python": "3.1"}, True),
        ({"torch": ">=2.4,<3"}, False),
        ({"torch": "<2.5"}, True),
    ],
)
def test_the_profile_expects_versions_of_all_hosts(expect: dict[str, str], fails: bool) -> None:
    found = of(f"sw.{next(iter(expect))}", report(cluster(3), expect=expect))
    assert bool(found) is fails
    if fails:
        assert found[0].hosts == ("node1", "node2", "node3")
        assert "by the profile" in found[0].expected


def test_a_package_that_is_missing_is_asked_for_in_the_range_of_the_profile() -> None:
    found = of("sw.deepspeed", report(packages(deepspeed="")(cluster(3)), expect={"deepspeed": ">=0.16,<1"}))
    assert [finding.hosts for finding in found] == [("node2",)]
    assert found[0].fix.endswith("-m pip install 'deepspeed>=0.16,<1'")


FAILURES = [
    ("resolve", "ssh.reach"),
    ("connect", "ssh.reach"),
    ("dropped", "ssh.reach"),
    ("banner", "ssh.reach"),
    ("hostkey", "ssh.hostkey"),
    ("auth", "ssh.auth"),
    ("exec", "env.shell"),
    ("python", "env.noninteractive"),
    ("deadline", "env.result"),
    ("decode", "env.result"),
]


@pytest.mark.parametrize(("stage", "code"), FAILURES)
def test_a_host_that_gave_no_facts_fails_under_the_stage_it_broke_at(stage: str, code: str) -> None:
    facts = cluster(3)
    hosts = inventory(facts)
    del facts["node2"]
    failure = Failure(host="node2", stage=stage, message="it broke", hint="mend it")  # type: ignore[arg-type]
    found = report(facts, hosts=hosts, failures=(failure,))
    (finding,) = of(code, found)
    assert (finding.hosts, finding.observed) == (("node2",), "it broke")
    assert finding.fix == "mend it" or "~/.bashrc: ssh node2 true" in finding.fix
    assert found.hosts == {"node1": "ready", "node2": "not-ready", "node3": "ready"}
    assert found.verdict == "not-ready"
    for check in found.checks:
        assert check.status != "pass" or "node2" not in check.hosts or stage not in ("resolve", "connect")


def test_a_host_that_reached_login_passed_the_connection() -> None:
    facts = cluster(2)
    hosts = inventory(facts)
    del facts["node2"]
    failure = Failure(host="node2", stage="auth", message="denied")
    found = report(facts, hosts=hosts, failures=(failure,))
    passed = {check.code for check in found.checks if check.status == "pass" and "node2" in check.hosts}
    assert passed == {"ssh.reach", "ssh.hostkey"}


def test_silence_without_a_reason_is_a_failure() -> None:
    facts = cluster(2)
    found = report({"node1": facts["node1"]}, hosts=inventory(facts))
    assert [finding.hosts for finding in of("env.result", found)] == [("node2",)]
    assert found.hosts["node2"] == "not-ready"


def test_where_nobody_answered_nothing_is_claimed_about_the_hosts() -> None:
    hosts = inventory(("node1", "node2"))
    found = report({}, hosts=hosts)
    assert {finding.code for finding in found.findings} == {"env.result"}
    statuses = {check.status for check in found.checks if not check.code.startswith("env.")}
    assert statuses == {"unknown"}


def test_two_entries_of_one_machine() -> None:
    facts = {"node1": healthy(1), "alias": msgspec.structs.replace(healthy(1), host="alias")}
    (finding,) = of("host.dup", report(facts))
    assert finding.fix == "delete line 2 (alias) of hostfile and add its slots to node1"


def test_hosts_of_one_kernel_with_networks_of_their_own_are_no_duplicates() -> None:
    facts = {name: msgspec.structs.replace(of, boot_id="same") for name, of in cluster(3).items()}
    assert not of("host.dup", report(facts))


def test_shared_gpus() -> None:
    facts = altered(cluster(2, gpus=1), "node2", nvidia=nvidia("node1", 1))
    assert of("host.shared-gpu", report(facts))


def test_a_user_of_another_uid_matters_only_on_a_shared_home() -> None:
    facts = altered(cluster(3), "node2", user="bob", uid=1001)
    assert not of("host.user", report(facts))
    shared = {host: msgspec.structs.replace(of, shared_token="t") for host, of in facts.items()}
    assert of("host.user", report(shared))


def test_hostfile_warnings_become_findings() -> None:
    hosts = Inventory(
        "lab",
        (Host("node1", 4, (0,), 1),),
        (HostfileWarning("lab line 1", "slots=4x reads as 4", "slots=4"),),
    )
    (finding,) = of("hostfile.line", report(cluster(1), hosts=hosts))
    assert "lab line 1" in finding.observed


def test_uneven_gpus_are_fine_when_the_slots_say_so() -> None:
    facts = {"node1": healthy(1, gpus=3), "node2": healthy(2, gpus=1)}
    hosts = Inventory("lab", (Host("node1", 3, (0, 1, 2), 1), Host("node2", 1, (0,), 2)))
    assert not of("host.slots", report(facts, hosts=hosts))


def test_a_master_name_that_means_different_machines() -> None:
    facts = {
        host: msgspec.structs.replace(of, names=(*of.names, Name("head", (f"10.9.0.{number}",))))
        for number, (host, of) in enumerate(cluster(2).items())
    }
    assert of("name.master", report(facts, settings=everywhere(facts, MASTER_ADDR="head")))


@pytest.mark.parametrize("address", ["10.77.0.1", "127.0.0.1", "127.0.1.1"])
def test_a_master_address_that_rank_0_does_not_have_or_no_other_host_reaches(address: str) -> None:
    (finding,) = of(
        "name.master-local", report(cluster(2), settings=everywhere(cluster(2), MASTER_ADDR=address))
    )
    assert finding.hosts == ("node1",)


def test_one_host_alone_may_meet_on_its_loopback() -> None:
    assert not of(
        "name.master-local", report(cluster(1), settings=everywhere(cluster(1), MASTER_ADDR="127.0.0.1"))
    )


@pytest.mark.parametrize(("level", "known"), [("ERROR", False), ("1", False), ("info", True), ("WARN", True)])
def test_a_level_that_nccl_does_not_know(level: str, known: bool) -> None:
    found = of("sw.nccl-debug", report(cluster(2), settings=everywhere(cluster(2), NCCL_DEBUG=level)))
    assert [finding.hosts for finding in found] == ([] if known else [("node1", "node2")])


@pytest.mark.parametrize(
    ("value", "severity"),
    [
        ("eth0", None),
        ("=eth0", None),
        ("^docker,lo", None),
        ("eth", "warn"),
        ("=eth0 ", "fail"),
        ("x", "warn"),
    ],
)
def test_the_users_nccl_filter_is_read_as_nccl_reads_it(value: str, severity: str | None) -> None:
    facts = {
        f"node{number}": healthy(
            number,
            interfaces=(LOOPBACK, nic("eth0", f"10.1.0.{number}"), nic("eth10", f"10.2.0.{number}")),
        )
        for number in (1, 2)
    }
    if value == "eth0":
        facts = cluster(2)
    found = of("net.ifname-user", report(facts, settings=everywhere(facts, NCCL_SOCKET_IFNAME=value)))
    assert {finding.severity for finding in found} == ({severity} if severity else set())


def test_quick_skips_what_it_did_not_ask() -> None:
    facts = {host: msgspec.structs.replace(of, torch=None) for host, of in cluster(2).items()}
    found = report(facts, quick=True)
    skipped = {check.code: check.reason for check in found.checks if check.status == "skip"}
    assert skipped["sw.torch-import"] == "not asked with --quick"
    assert skipped["net.backconnect"] == "not asked with --quick"
    assert found.verdict == "ready"


def test_unknown_is_no_pass() -> None:
    found = report(altered(cluster(2), "node2", clock_offset=None))
    assert found.verdict == "unknown"
    assert found.hosts == {"node1": "ready", "node2": "unknown"}


def test_every_check_accounts_for_every_host_once() -> None:
    facts = packages(torch="2.4.0")(cluster(4))
    hosts = inventory((*facts, "silent"))
    found = report(facts, hosts=hosts)
    for code in {rule.code for rule in RULES}:
        accounted = [host for check in found.checks if check.code == code for host in check.hosts]
        assert sorted(accounted) == sorted(hosts.names)


def test_codes_are_unique_and_speak() -> None:
    codes = [rule.code for rule in RULES]
    assert len(codes) == len(set(codes))
    assert all(rule.looks_at for rule in RULES)


def test_a_thousand_equal_hosts_are_a_handful_of_findings() -> None:
    facts = cluster(1024)
    for number in range(1, 1025, 2):
        facts[f"node{number}"] = msgspec.structs.replace(facts[f"node{number}"], clock_offset=99.0)
    assert len(report(facts).findings) < 20


def test_sessions_dropped_when_many_open_at_once() -> None:
    facts = cluster(12)
    hosts = inventory(facts)
    dropped = [Failure(host=f"node{n}", stage="dropped", message="“Exceeded MaxStartups”") for n in (11, 12)]
    found = report({host: facts[host] for host in hosts.names[:10]}, hosts=hosts, failures=dropped)
    (finding,) = of("ssh.fanout", found)
    assert finding.hosts == ("node11", "node12")
    assert "MaxStartups" in finding.fix
    assert not of("ssh.reach", found)
    dropped = [msgspec.structs.replace(each, message="closed the connection") for each in dropped]
    found = report({host: facts[host] for host in hosts.names[:10]}, hosts=hosts, failures=dropped)
    assert not of("ssh.fanout", found) and of("ssh.reach", found)


def test_roce_devices_of_different_mtu() -> None:
    roce = msgspec.structs.replace(IB_PORT, link_layer="Ethernet", netdev="eth0", netdev_mtu=9000)
    facts = {
        host: msgspec.structs.replace(of_host, rdma=(roce,), verbs_library=True)
        for host, of_host in cluster(3).items()
    }
    assert not of("ib.mtu", report(facts))
    facts = altered(facts, "node2", rdma=(msgspec.structs.replace(roce, netdev_mtu=1500),))
    assert [finding.hosts for finding in of("ib.mtu", report(facts))] == [("node2",)]


def test_what_only_differs_is_a_note_and_no_complaint() -> None:
    facts = altered(cluster(3), "node2", kernel="6.8.0", workdir_exists=False, compilers=("g++ 12.2",))
    found = report(facts)
    notes = {finding.code for finding in found.findings if finding.severity == "info"}
    assert {"sw.kernel", "env.path", "sw.toolchain"} <= notes
    assert found.verdict == "ready"


def test_caches_on_a_shared_home_are_a_note_since_launch_moves_them() -> None:
    facts = altered(cluster(3), "node2", shared_token="nfs4 filer:/home 7")
    assert "sw.caches" not in {finding.code for finding in report(facts).findings}
    found = report(altered(facts, "node1", shared_token="nfs4 filer:/home 7"))
    (note,) = (finding for finding in found.findings if finding.code == "sw.caches")
    assert (note.hosts, note.severity) == (("node1", "node2"), "info")


def test_desktop_processes_do_not_count_as_foreign() -> None:
    card: Gpu = gpu(0, uuid="GPU-node2-0", processes=foreign(GIB // 2, "/usr/lib/xorg/Xorg vt2"))
    facts = smi(gpus=(card, gpu(1, uuid="GPU-node2-1")))(cluster(2, gpus=2))
    assert not of("gpu.busy", report(facts, slots=2))


def test_a_gpu_that_is_gone_is_a_failure_where_its_slot_is_wanted() -> None:
    node2 = msgspec.structs.replace(nvidia("node2", 2), devices=3)
    facts = altered(cluster(3, gpus=3), "node2", nvidia=node2)
    assert [finding.severity for finding in of("gpu.count", report(facts, slots=3))] == ["fail"]
    (note,) = [each for each in report(facts, slots=2).findings if each.code == "gpu.count"]
    assert (note.severity, note.hosts) == ("info", ("node2",))


@pytest.mark.parametrize("code", ["ib.libs", "os.memlock"])
def test_rdma_that_nobody_uses_stops_nobody(code: str) -> None:
    ethernet = msgspec.structs.replace(IB_PORT, link_layer="Ethernet", netdev="eth0")
    limits = Limits(memlock=65536, nofile=65536, stack=8 * 1024**2)
    alter = rdma_everywhere(ethernet, verbs_library=False, limits=limits)
    assert of(code, report(alter(cluster(3, gpus=1))))
    assert not of(code, report(alter(cluster(3, gpus=0))))
    if code == "os.memlock":
        assert not of(
            code, report(alter(cluster(3, gpus=1)), settings=everywhere(cluster(3), NCCL_IB_DISABLE="1"))
        )


def test_a_gpu_that_answers_no_torch_is_a_failure() -> None:
    facts = torch_with(error="capabilities: RuntimeError: CUDA error: uncorrectable ECC")(cluster(3, gpus=2))
    (found,) = of("sw.torch-import", report(facts, slots=2))
    assert (found.severity, found.hosts) == ("fail", ("node2",))


def test_the_environment_wins_over_a_hosts_files() -> None:
    own = (
        Variable("NCCL_SOCKET_IFNAME", "=eth0", "environment"),
        Variable("NCCL_SOCKET_IFNAME", "=eth1", "/etc/nccl.conf:1"),
    )
    facts = altered(cluster(2), "node2", variables=own)
    chosen = choose(inventory(facts, 1), facts).of("node2")
    assert chosen is not None
    assert chosen.env["NCCL_SOCKET_IFNAME"] == "=eth0"

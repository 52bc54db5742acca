"""What idle GPUs did: alone, all together by NCCL, and two hosts at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from clusterctl.checks.evaluate import Report, evaluate
from clusterctl.facts.dcgm import Dcgm, Diagnosis
from clusterctl.facts.e2e import AllReduce, Bandwidth, Device, Proof, Rank
from clusterctl.facts.gpu import GpuProcess
from clusterctl.facts.model import Facts, Reachability
from clusterctl.network.choose import choose
from clusterctl.network.pairwise import bus_bandwidth
from clusterctl.plan.group import idle_devices
from tests.builders import altered, cluster, inventory

HOSTS = ("node1", "node2", "node3", "node4")
INVENTORY = inventory(HOSTS, slots=2)
FACTS = cluster(4, gpus=2)
ADDRESS = {host: FACTS[host].interfaces[1].addresses[0].address for host in HOSTS}


def report(**proof: Any) -> Report:
    network = choose(INVENTORY, FACTS, Reachability())
    found = Proof(bandwidth=Bandwidth(), **proof)
    return evaluate(INVENTORY, FACTS, network=network, proof=found)


def said(found: Report, code: str) -> dict[str, tuple[tuple[str, ...], str]]:
    return {
        each.severity: (each.hosts, each.observed)
        for each in found.findings
        if each.code == code and each.severity != "info"
    }


def devices(**odd: Device) -> tuple[Device, ...]:
    """Two of each host, all alike but for ``odd``, by host: its second."""
    return tuple(
        odd.get(host, usual) if number else usual
        for host in HOSTS
        for number in range(2)
        for usual in (Device(host=host, device=f"cuda:{number}", stage="right", flops=600e12),)
    )


def test_cards_that_compute_alike_pass() -> None:
    found = report(devices=devices())
    assert said(found, "gpu.cuda-smoke") == said(found, "gpu.gemm") == {}
    assert {each.status for each in found.checks if each.code == "gpu.gemm"} == {"pass"}


@pytest.mark.parametrize(("tera", "severity"), [(560, ""), (500, "warn"), (300, "fail")])
def test_a_slow_card_is_named(tera: float, severity: str) -> None:
    slow = Device(host="node3", device="cuda:1", stage="right", flops=tera * 1e12)
    found = said(report(devices=devices(node3=slow)), "gpu.gemm")
    assert list(found) == ([severity] if severity else [])
    if severity:
        assert found[severity][0] == ("node3",)
        assert found[severity][1].startswith("GPU 1:")


def test_a_card_that_fails_is_named_and_one_that_is_late_is_unknown() -> None:
    sick = Device(host="node2", device="cuda:1", error="RuntimeError: CUDA error: unspecified launch failure")
    late = Device(host="node4", device="cuda:1", stage="imported", unknown="it did not end within 180 s")
    found = said(report(devices=devices(node2=sick, node4=late)), "gpu.cuda-smoke")
    assert found["fail"][0] == ("node2",)
    assert found["unknown"][0] == ("node4",)


def test_dcgm_s_settings_are_no_faults() -> None:
    setting = Diagnosis(test="software", gpu=0, text="Persistence Mode: disabled", configuration=True)
    fault = Diagnosis(test="memory", gpu=3, text="page retirement")
    told = {
        "node1": Dcgm(present=True, tests=9, failed=(setting,)),
        "node2": Dcgm(present=True, tests=9, failed=(fault,)),
        "node3": Dcgm(present=True, error="dcgmi gave no report: no host engine"),
        "node4": Dcgm(present=False),
    }
    found = said(report(devices=devices(), dcgm=told), "gpu.dcgm")
    assert {severity: hosts for severity, (hosts, _) in found.items()} == {
        "warn": ("node1",),
        "fail": ("node2",),
        "unknown": ("node3",),
    }


def test_only_idle_cards_are_asked() -> None:
    facts: dict[str, Facts] = {
        host: msgspec.structs.replace(
            of_host, torch=msgspec.structs.replace(of_host.torch, cuda_available=True, device_count=2)
        )
        for host, of_host in FACTS.items()
        if of_host.torch is not None
    }
    smi = facts["node2"].nvidia
    working = GpuProcess(7, 1 << 30, "bob", "python train.py")
    cards = (msgspec.structs.replace(smi.gpus[0], processes=(working,)), smi.gpus[1])
    facts = altered(facts, "node2", nvidia=msgspec.structs.replace(smi, gpus=cards))
    full = tuple(msgspec.structs.replace(card, memory_used=40 << 30) for card in smi.gpus)
    facts = altered(facts, "node3", nvidia=msgspec.structs.replace(smi, gpus=full))
    assert idle_devices(INVENTORY, facts) == {
        "node1": ("cuda:0", "cuda:1"),
        "node2": ("cuda:1",),
        "node4": ("cuda:0", "cuda:1"),
    }


def together(
    *hosts: str, seconds: float = 0.01, done: bool = True, logs: Mapping[str, tuple[str, ...]] = {}
) -> AllReduce:
    return AllReduce(
        backend="nccl",
        ranks=tuple(
            Rank(
                host=host,
                rank=rank,
                device="cuda:0",
                stage="reduced" if done else "group",
                done=done,
                state="works" if done else "waits",
                times=((256 << 20, seconds),) if done else (),
                log=logs.get(host, ()),
            )
            for rank, host in enumerate(hosts)
        ),
    )


def test_bus_bandwidth_is_that_of_the_slowest_rank() -> None:
    assert bus_bandwidth(together("a", "b", seconds=0.01)) == pytest.approx((256 << 20) / 0.01)
    assert bus_bandwidth(together("a", "b", done=False)) is None


def test_without_gpus_or_without_thorough_nobody_asks_nccl() -> None:
    found = report()
    reasons = {each.code: each.reason for each in found.checks}
    assert reasons["e2e.nccl"] == "no GPU is idle"
    assert reasons["gpu.gemm"] == "no GPU is idle"


def log(host: str, network: str, address: str = "") -> tuple[str, ...]:
    return (
        f"{host}:1:1 [0] NCCL INFO Bootstrap: Using eth0:{address or ADDRESS[host]}<0>",
        f"{host}:1:2 [0] NCCL INFO Using network {network}",
    )


def test_one_host_that_fell_back_to_tcp_is_named() -> None:
    logs = {host: log(host, "Socket" if host == "node2" else "IB") for host in HOSTS}
    found = said(report(nccl=together(*HOSTS, logs=logs)), "e2e.nccl")
    assert found["fail"] == (("node2",), "data goes by Socket")


def test_an_address_that_was_not_chosen_is_a_warning() -> None:
    logs = {host: log(host, "Socket", "172.17.0.1" if host == "node4" else "") for host in HOSTS}
    found = said(report(nccl=together(*HOSTS, logs=logs)), "e2e.nccl")
    assert found == {"warn": (("node4",), "NCCL takes eth0 172.17.0.1")}


def test_a_host_whose_cards_are_in_use_is_not_judged() -> None:
    found = report(nccl=together(*HOSTS[:3]))
    assert said(found, "e2e.nccl") == {}
    status = {host: each.status for each in found.checks if each.code == "e2e.nccl" for host in each.hosts}
    assert status == {"node1": "pass", "node2": "pass", "node3": "pass", "node4": "unknown"}


def test_the_host_that_is_in_every_bad_pair_is_named() -> None:
    pairs = (
        together("node1", "node2", done=False),
        together("node3", "node4"),
        together("node1", "node3"),
        together("node2", "node4", done=False),
    )
    found = said(report(nccl=together(*HOSTS), pairs=pairs), "e2e.pairwise")
    assert list(found) == ["fail"]
    assert found["fail"][0] == ("node2",)


def test_a_slow_host_is_a_warning_and_its_partner_is_cleared() -> None:
    pairs = (
        together("node1", "node2", seconds=0.1),
        together("node3", "node4"),
        together("node1", "node3"),
        together("node2", "node4", seconds=0.1),
    )
    found = said(report(nccl=together(*HOSTS), pairs=pairs), "e2e.pairwise")
    assert found == {"warn": (("node2",), found["warn"][1])}


def test_where_nobody_passed_nobody_is_at_fault() -> None:
    pairs = (together("node1", "node2", done=False), together("node3", "node4", done=False))
    found = said(report(nccl=together(*HOSTS), pairs=pairs), "e2e.pairwise")
    assert list(found) == ["unknown"]

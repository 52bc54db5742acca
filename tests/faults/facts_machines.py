"""Machines of several generations: healthy as they are, and sick in one way each."""

from __future__ import annotations

from typing import Any

import msgspec

from clusterctl.facts.gpu import DeviceNode, StuckProcess
from tests.fact_sets import Case, on
from tests.nvidia_machines import (
    A100,
    GH200,
    H100,
    H200,
    L40S,
    MIG,
    ORIN,
    RIG_3090,
    RTX_5090,
    T4,
    V100,
    XAVIER,
    Machine,
    running,
)

HOSTS = (1, 2, 3)


def healthy(machine: Machine, name: str = "", *further: Any, **fields: Any) -> Case:
    return Case(
        name=f"{machine.name}{name and f': {name}'}",
        alter=(running(dict.fromkeys(HOSTS, machine)), *further),
        **{"gpus": machine.count, **fields},
    )


def sick(code: str, name: str, machine: Machine, *further: Any, at: str = "node2", **changes: Any) -> Case:
    """``changes`` of the machine on node2."""
    odd = msgspec.structs.replace(machine, **changes)
    return Case(
        name=f"{code}: {machine.name}: {name}",
        alter=(running({1: machine, 2: odd, 3: machine}), *further),
        gpus=machine.count,
        expected={code: at},
    )


def one(index: int, **cells: str) -> dict[str, Any]:
    return {"own": {index: {name.replace("__", "."): value for name, value in cells.items()}}}


def all_of(machine: Machine, **cells: str) -> dict[str, Any]:
    return {"fields": {**machine.fields, **{name.replace("__", "."): value for name, value in cells.items()}}}


STUCK = (StuckProcess(4711, "bob", "python train.py", "killed"),)
ODD = [
    *(healthy(machine) for machine in (RIG_3090, V100, A100, H100, H200, T4, GH200, ORIN, RTX_5090, L40S)),
    healthy(XAVIER, gpus=0),
    healthy(
        ORIN,
        "a torch without NCCL, as NVIDIA builds it for Jetson",
        on("*", python={"packages": {"nvidia-nccl-cu12": None}}, torch={"nccl_version": "", "nccl_path": ""}),
    ),
    Case(name="two generations of Jetson", alter=(running({1: ORIN, 2: XAVIER, 3: ORIN}),), gpus=1),
    healthy(msgspec.structs.replace(L40S, p2p="CNS"), "peer-to-peer on no host"),
    Case(
        name="3090s of two makers",
        alter=(
            running(
                {
                    1: RIG_3090,
                    2: msgspec.structs.replace(
                        RIG_3090,
                        **all_of(RIG_3090, vbios_version="94.02.26.88.22", pci__sub_device_id="0x39873842"),
                    ),
                    3: RIG_3090,
                }
            ),
        ),
        gpus=4,
    ),
    Case(
        name="rigs with slots wired otherwise",
        alter=(
            running({1: L40S, 2: msgspec.structs.replace(L40S, connected="PHB", pairs={}), 3: L40S}),
            on("node1", product="X299"),
            on("node2", product="WRX80"),
            on("node3", product="X570"),
        ),
        gpus=4,
    ),
    healthy(
        msgspec.structs.replace(V100, **all_of(V100, ecc__mode__current="Disabled")), "ECC off everywhere"
    ),
    healthy(
        A100,
        "the second half closed to this user, who has the first",
        on("*", nvidia={"nodes": 8, "closed": tuple(DeviceNode(f"/dev/nvidia{n}") for n in range(4, 8))}),
        slots=4,
    ),
]
FAULTS = [
    sick("gpu.mig", "on one host", MIG, at="node1 node2 node3"),
    sick("gpu.throttle", "hot", RIG_3090, **one(2, clocks_throttle_reasons__active="0x0000000000000040")),
    sick("gpu.pcie", "four lanes", RIG_3090, **one(1, pcie__link__width__current="4")),
    sick("gpu.nvlink", "no bridge", RIG_3090, links=0, dead_links=4, pairs={}),
    sick("gpu.nvlink", "a link that is down", V100, links=5, dead_links=1),
    sick("gpu.nvlink", "two links down", H100, links=16, dead_links=2, connected="NV16"),
    sick("gpu.nvlink", "errors on a link", A100, link_errors={6: 4000}),
    sick("gpu.p2p", "none on one host", L40S, p2p="CNS"),
    sick("gpu.topo", "a switch less", L40S, on("*", product="R750"), pairs={"0-1": "SYS", **L40S.pairs}),
    sick("gpu.topo", "no NVLink between two", A100, pairs={"3-5": "SYS"}),
    sick("gpu.vbios", "an older one", H100, **all_of(H100, vbios_version="96.00.5E.00.01")),
    sick("gpu.vbios", "of one card", A100, **one(4, vbios_version="92.00.36.00.02")),
    sick("gpu.clocks", "left low by somebody", V100, **all_of(V100, clocks__applications__graphics="135")),
    sick("gpu.ecc-mode", "off on one host", A100, **all_of(A100, ecc__mode__current="Disabled")),
    sick("gpu.ecc", "three errors", T4, **one(0, ecc__errors__uncorrected__volatile__total="3")),
    sick("gpu.remap", "a page that waits", V100, **one(5, retired_pages__pending="Yes")),
    sick("gpu.remap", "a row that waits", H100, **one(5, remapped_rows__pending="Yes")),
    sick("gpu.fabric", "not joined", H200, **all_of(H200, fabric__state="In Progress")),
    sick("gpu.power", "limited", H100, **one(0, power__limit="350.00")),
    sick("gpu.smi", "lost", A100, **one(3, utilization__gpu="[GPU is lost]")),
    msgspec.structs.replace(
        sick("gpu.count", "seven of eight", A100, on("node2", nvidia={"devices": 8}), count=7),
        expected={"gpu.count": "node2", "host.slots": "node2"},
    ),
    sick("host.slots", "seven, also on the bus", A100, count=7),
    sick("gpu.compute-mode", "exclusive", GH200, **one(0, compute_mode="Exclusive_Process")),
    sick("gpu.p2p", "a driver that offers it", RTX_5090, p2p="OK"),
    sick("gpu.busy", "a job", T4, apps=("GPU-HOST-0, 4194300, 9000, python",)),
    sick(
        "gpu.zombie",
        "killed and still there",
        A100,
        on("node2", nvidia={"stuck": STUCK}),
        apps=("GPU-HOST-0, 4711, 40000, python",),
    ),
    sick(
        "gpu.devnodes",
        "closed to the user",
        A100,
        on(
            "node2",
            nvidia={
                "exit_code": 4,
                "gpus": (),
                "nodes": 8,
                "closed": tuple(DeviceNode(f"/dev/nvidia{n}", "video") for n in (*range(8), "ctl")),
            },
            torch={"cuda_available": False, "device_count": 0},
        ),
    ),
    sick(
        "gpu.devnodes",
        "unified memory closed",
        H100,
        on(
            "node2",
            nvidia={"nodes": 8, "closed": (DeviceNode("/dev/nvidia-uvm"),)},
            torch={"cuda_available": False, "device_count": 0},
        ),
    ),
]

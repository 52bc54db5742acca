"""Machines of several generations as their nvidia-smi tells of them, read by the probe itself."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from clusterctl.facts.decode import decode_facts
from clusterctl.facts.gpu import NvidiaSmi
from clusterctl.node.probe import gpu
from tests.fact_sets import Alteration, Cluster, on

NA = "[N/A]"
DEPRECATED = "[Requested functionality has been deprecated]"
_TOOL = """#!{python} -IS
import json, sys
told = json.load(open({path!r}))
asked = sys.argv[1:]
if asked and asked[0].startswith("--query-gpu="):
    fields = asked[0].partition("=")[2].split(",")
    unknown = [name for name in fields if name in told["unknown"]]
    if unknown:
        print('Field "%s" is not a valid field to query.' % unknown[0])
        sys.exit(2)
    for card in told["cards"]:
        print(", ".join(card.get(name, "[N/A]") for name in fields))
    sys.exit(told["code"])
if asked and asked[0].startswith("--query-compute-apps"):
    print("\\n".join(told["apps"]))
else:
    print(told["tables"].get(" ".join(asked), ""))
"""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """``fields`` of every card as its nvidia-smi writes them; ``own`` of one of them. ``links`` are NVLinks
    that work, ``connected`` what the matrix says of a pair of cards."""

    name: str
    count: int
    driver: str
    cuda: str = "12.4"
    fields: Mapping[str, str] = {}
    own: Mapping[int, Mapping[str, str]] = {}
    unknown: tuple[str, ...] = ()
    links: int = 0
    dead_links: int = 0
    link_errors: Mapping[int, int] = {}
    connected: str = "PHB"
    pairs: Mapping[str, str] = {}
    p2p: str = "OK"
    apps: tuple[str, ...] = ()
    soc: str = ""
    has_smi: bool = True
    on_the_bus: bool = True


USUAL = {
    "memory.used": "4",
    "utilization.gpu": "0",
    "compute_mode": "Default",
    "mig.mode.current": "Disabled",
    "ecc.errors.uncorrected.volatile.total": "0",
    "persistence_mode": "Enabled",
    "pcie.link.width.current": "16",
    "pcie.link.width.max": "16",
    "clocks_throttle_reasons.active": "0x0000000000000001",
    "remapped_rows.pending": "No",
    "remapped_rows.failure": "No",
    "retired_pages.pending": NA,
    "fabric.state": NA,
    "ecc.mode.current": "Enabled",
}
GEFORCE = {
    **USUAL,
    "mig.mode.current": NA,
    "ecc.errors.uncorrected.volatile.total": NA,
    "ecc.mode.current": NA,
    "remapped_rows.pending": NA,
    "remapped_rows.failure": NA,
    "fabric.state": "N/A",
    "persistence_mode": "Disabled",
    "clocks.applications.graphics": NA,
}
RIG_3090 = Machine(
    name="NVIDIA GeForce RTX 3090",
    count=4,
    driver="535.183.01",
    cuda="12.2",
    fields={
        **GEFORCE,
        "memory.total": "24576",
        "power.limit": "350.00",
        "vbios_version": "94.02.42.40.8A",
        "pci.sub_device_id": "0x87D91043",
        "pcie.link.width.current": "8",
    },
    links=4,
    pairs={"0-1": "NV4", "2-3": "NV4"},
)
V100 = Machine(
    name="Tesla V100-SXM2-32GB",
    count=8,
    driver="470.256.02",
    cuda="11.4",
    fields={
        **USUAL,
        "memory.total": "32510",
        "mig.mode.current": NA,
        "remapped_rows.pending": NA,
        "remapped_rows.failure": NA,
        "retired_pages.pending": "No",
        "power.limit": "300.00",
        "vbios_version": "88.00.43.00.03",
        "pci.sub_device_id": "0x124910DE",
        "clocks.applications.graphics": "1290",
    },
    unknown=("fabric.state",),
    links=6,
    connected="NV1",
    pairs={"0-3": "NV2", "0-4": "NV2", "1-6": "SYS"},
)
A100 = Machine(
    name="NVIDIA A100-SXM4-80GB",
    count=8,
    driver="535.161.08",
    cuda="12.2",
    fields={
        **USUAL,
        "memory.total": "81920",
        "power.limit": "400.00",
        "vbios_version": "92.00.45.00.06",
        "pci.sub_device_id": "0x146310DE",
        "clocks.applications.graphics": "1275",
    },
    links=12,
    connected="NV12",
)
H100 = Machine(
    name="NVIDIA H100 80GB HBM3",
    count=8,
    driver="550.54.15",
    fields={
        **USUAL,
        "memory.total": "81559",
        "fabric.state": "Completed",
        "power.limit": "700.00",
        "vbios_version": "96.00.74.00.01",
        "pci.sub_device_id": "0x16C110DE",
        "clocks.applications.graphics": "1980",
    },
    links=18,
    connected="NV18",
)
H200 = msgspec.structs.replace(
    H100,
    name="NVIDIA H200",
    driver="580.159.03",
    cuda="13.0",
    fields={**H100.fields, "memory.total": "143771", "clocks.applications.graphics": DEPRECATED},
)
T4 = Machine(
    name="Tesla T4",
    count=1,
    driver="550.90.07",
    fields={
        **USUAL,
        "memory.total": "15360",
        "mig.mode.current": NA,
        "retired_pages.pending": "No",
        "remapped_rows.pending": NA,
        "remapped_rows.failure": NA,
        "persistence_mode": "Disabled",
        "pcie.link.width.current": "8",
        "power.limit": "70.00",
        "vbios_version": "90.04.96.00.02",
        "pci.sub_device_id": "0x12A210DE",
        "clocks.applications.graphics": "585",
    },
)
GH200 = Machine(
    name="NVIDIA GH200 480GB",
    count=1,
    driver="560.35.05",
    cuda="12.6",
    fields={**USUAL, "memory.total": "97871", "power.limit": "900.00", "vbios_version": "96.00.68.00.01"},
    dead_links=18,
)
ORIN = Machine(
    name="Orin (nvgpu)",
    count=1,
    driver="540.4.0",
    cuda="12.6",
    soc="NVIDIA Jetson AGX Orin Developer Kit",
    on_the_bus=False,
    fields={"uuid": NA, "memory.total": "[Not Supported]", "driver_version": NA, "pci.bus_id": NA},
)
XAVIER = msgspec.structs.replace(ORIN, name="Xavier", soc="Jetson-AGX", has_smi=False)
MIG = msgspec.structs.replace(
    A100, fields={**A100.fields, "mig.mode.current": "Enabled", "utilization.gpu": NA}, count=2
)
RTX_5090 = Machine(
    name="NVIDIA GeForce RTX 5090",
    count=2,
    driver="595.71.05",
    cuda="13.2",
    fields={
        **GEFORCE,
        "memory.total": "32607",
        "power.limit": "575.00",
        "clocks.applications.graphics": DEPRECATED,
        "persistence_mode": "Enabled",
        "vbios_version": "98.02.2E.00.AF",
        "pci.sub_device_id": "0x416F1458",
    },
    p2p="GNS",
)
L40S = Machine(
    name="NVIDIA L40S",
    count=4,
    driver="550.54.15",
    fields={**USUAL, "memory.total": "46068", "power.limit": "350.00", "ecc.mode.current": "Enabled"},
    connected="NODE",
    pairs={"0-2": "SYS", "0-3": "SYS", "1-2": "SYS", "1-3": "SYS"},
)


_KNOWN: dict[int, tuple[Machine, NvidiaSmi]] = {}


def read_back(machine: Machine, number: int) -> NvidiaSmi:
    """What the probe tells of host ``number``, which is such a machine."""
    if not machine.has_smi:
        return NvidiaSmi(devices=0, soc=machine.soc)
    if id(machine) not in _KNOWN:
        _KNOWN[id(machine)] = machine, _asked(machine)
    told = _KNOWN[id(machine)][1]
    cards = (msgspec.structs.replace(card, uuid=card.uuid.replace("HOST", str(number))) for card in told.gpus)
    return msgspec.structs.replace(told, gpus=tuple(cards))


def _asked(machine: Machine) -> NvidiaSmi:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "told.json")
        path.write_text(json.dumps(_told(machine)), encoding="utf-8")
        tool = Path(directory, "nvidia-smi")
        tool.write_text(_TOOL.format(python=sys.executable, path=str(path)), encoding="utf-8")
        tool.chmod(0o755)
        answer = gpu.nvidia({"PATH": directory})
    of_bus = machine.count if machine.on_the_bus else 0
    answer["nvidia"].update(
        devices=of_bus, bound=["nvidia"] * of_bus, kernel_driver=machine.driver, soc=machine.soc, closed=[]
    )
    return decode_facts("host", answer).nvidia


def _told(machine: Machine) -> dict[str, Any]:
    cards = [
        {
            "index": str(index),
            "uuid": f"GPU-HOST-{index}",
            "name": machine.name,
            "driver_version": machine.driver,
            "pci.bus_id": f"00000000:{index + 16:02X}:00.0",
            **machine.fields,
            **machine.own.get(index, {}),
        }
        for index in range(machine.count)
    ]
    return {
        "code": 0,
        "cards": cards,
        "unknown": machine.unknown,
        "apps": list(machine.apps),
        "tables": {
            "": f"| NVIDIA-SMI {machine.driver}   Driver Version: {machine.driver}   "
            f"CUDA Version: {machine.cuda}     |",
            "nvlink -s": "\n".join(_links(machine, index) for index in range(machine.count)),
            "nvlink -e": "\n".join(_errors(machine, index) for index in range(machine.count)),
            "topo -m": _matrix(machine),
            "topo -p2p r": _matrix(
                msgspec.structs.replace(machine, connected=machine.p2p, pairs={}), plain=True
            ),
        },
    }


def _links(machine: Machine, index: int) -> str:
    lines = [f"GPU {index}: {machine.name} (UUID: GPU-{index})"]
    lines += [f"\t Link {link}: 26.562 GB/s" for link in range(machine.links)]
    lines += [f"\t Link {machine.links + link}: <inactive>" for link in range(machine.dead_links)]
    return "\n".join(lines)


def _errors(machine: Machine, index: int) -> str:
    lines = [f"GPU {index}: {machine.name} (UUID: GPU-{index})"]
    for link in range(machine.links):
        count = machine.link_errors.get(index, 0) if not link else 0
        lines += [f"\t Link {link}: Replay Errors: {count}", f"\t Link {link}: CRC Errors: 0"]
    return "\n".join(lines)


def _matrix(machine: Machine, *, plain: bool = False) -> str:
    """With an adapter's column and an underlined head, as drivers since 535 write it."""
    names = [f"GPU{index}" for index in range(machine.count)]
    head = "\t".join(["", *names, "NIC0", "CPU Affinity", "NUMA Affinity", "GPU NUMA ID"])
    rows = []
    for one in range(machine.count):
        cells = [
            " X " if one == two else machine.pairs.get(f"{min(one, two)}-{max(one, two)}", machine.connected)
            for two in range(machine.count)
        ]
        rows.append("\t".join([f" GPU{one}" if plain else f"GPU{one}", *cells, "SYS", "0-31", "0", "N/A"]))
    nic = "\t".join(["NIC0", *["SYS"] * machine.count, " X "])
    return f"\x1b[4m{head}\x1b[0m\n" + "\n".join([*rows, nic]) + "\n\nLegend:\n\n  X    = Self\n"


def running(of_host: Mapping[int, Machine]) -> Alteration:
    """Host number -> the machine it is, with a driver and a torch that fit it."""

    def alter(facts: Cluster) -> Cluster:
        for number, machine in of_host.items():
            smi = read_back(machine, number)
            facts = on(
                f"node{number}",
                nvidia=smi,
                torch={"device_count": machine.count, "cuda_available": True},
                architecture="aarch64" if machine.soc or "GH200" in machine.name else "x86_64",
                python={"torch_cuda": machine.cuda},
            )(facts)
        return facts

    return alter

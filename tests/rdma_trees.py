"""RDMA adapters as sysfs shows them, laid out in a directory and read by the probe itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec

from clusterctl.facts.decode import decode_facts
from clusterctl.facts.model import Facts
from clusterctl.node.probe import rdma
from tests.builders import nic
from tests.fact_sets import Alteration, Cluster, on

EMPTY_GID = ":".join(["0000"] * 8)


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """One device with one port. ``gids`` are (type, GID or IPv4 address) in the order of their indices."""

    device: str = "mlx5_0"
    driver: str = "mlx5_core"
    model: str = "MT4123"
    board: str = "MT_0000000223"
    firmware: str = "20.39.1002"
    node_type: str = "1: CA"
    bus: str = "0000:15:01.0/0000:16:00.0"
    numa: int = 0
    lanes: int = 16
    software: bool = False
    state: str = "4: ACTIVE"
    physical_state: str = "5: LinkUp"
    rate: str = "200 Gb/sec (4X HDR)"
    link_layer: str = "InfiniBand"
    lid: str = "0x1f"
    sm_lid: str = "0x1"
    pkey: str = "0xffff"
    netdev: str = ""
    address: str = ""
    mtu: int = 9000
    speed: int = 200_000
    changes: int = 2
    gids: tuple[tuple[str, str], ...] = ()
    counters: Mapping[str, int] = {}
    hw_counters: Mapping[str, int] = {}


def infiniband(**changes: Any) -> Adapter:
    prefix = changes.pop("prefix", "fe80:0000:0000:0000")
    return Adapter(**{"gids": (("IB/RoCE v1", f"{prefix}:b859:9f03:0012:3456"),), **changes})


def roce(address: str, *further: str, **changes: Any) -> Adapter:
    """As mlx5 fills its table: version 1 and 2 of the link-local address, then both of each IPv4 one."""
    link_local = "fe80:0000:0000:0000:ba59:9fff:fe12:3456"
    gids = [("IB/RoCE v1", link_local), ("RoCE v2", link_local)]
    for each in (address, *further) if address else ():
        gids += [("IB/RoCE v1", each), ("RoCE v2", each)]
    fields = {
        "link_layer": "Ethernet",
        "lid": "0x0",
        "sm_lid": "0x0",
        "pkey": "0xffff",
        "netdev": "ens1f0np0",
        "address": address,
        "gids": tuple(gids),
        "rate": "100 Gb/sec (4X EDR)",
        "model": "MT4119",
        "firmware": "16.35.3502",
        "speed": 100_000,
    }
    return Adapter(**{**fields, **changes})


def rails(host: int, count: int = 8, **changes: Any) -> tuple[Adapter, ...]:
    """ConnectX-7 on an HGX board: a rail for each GPU, half of them at each processor."""
    fields = {"model": "MT4129", "firmware": "28.39.1002", "rate": "400 Gb/sec (4X NDR)"}
    return tuple(
        infiniband(
            device=f"mlx5_{rail}",
            bus=f"0000:{rail * 16:02x}:01.0/0000:{rail * 16 + 1:02x}:00.0",
            numa=rail * 2 // count,
            lid=f"0x{host * 16 + rail:x}",
            **{**fields, **changes},
        )
        for rail in range(count)
    )


def lay_out(root: Path, adapters: Iterable[Adapter], *, peermem: bool = True) -> None:
    for number, each in enumerate(adapters):
        _device(root, each)
        _write(root / f"dev/infiniband/uverbs{number}", "")
    if peermem:
        (root / "sys/module/nvidia_peermem").mkdir(parents=True)


def _device(root: Path, each: Adapter) -> None:
    if each.software:
        real = root / "sys/devices/virtual/infiniband" / each.device
    else:
        place = root / "sys/devices/pci0000:00" / each.bus
        real = place / "infiniband" / each.device
        _write(place / "numa_node", str(each.numa))
        _write(place / "current_link_speed", "16.0 GT/s PCIe")
        _write(place / "current_link_width", str(each.lanes))
        driver = root / "sys/bus/pci/drivers" / each.driver
        driver.mkdir(parents=True, exist_ok=True)
        (place / "driver").symlink_to(driver)
        if each.netdev:
            _write(place / "net" / each.netdev / "dev_port", "0")
    real.mkdir(parents=True)
    if not each.software:
        (real / "device").symlink_to("../..")
    link = root / "sys/class/infiniband" / each.device
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(real)
    files = {
        "fw_ver": each.firmware,
        "hca_type": each.model,
        "board_id": each.board,
        "node_type": each.node_type,
        "ports/1/state": each.state,
        "ports/1/phys_state": each.physical_state,
        "ports/1/rate": each.rate,
        "ports/1/link_layer": each.link_layer,
        "ports/1/lid": each.lid,
        "ports/1/sm_lid": each.sm_lid,
        "ports/1/pkeys/0": each.pkey,
    }
    if each.software:
        files["parent"] = each.netdev
    for index, (kind, gid) in enumerate(each.gids):
        files[f"ports/1/gids/{index}"] = _gid(gid)
        files[f"ports/1/gid_attrs/types/{index}"] = kind
        files[f"ports/1/gid_attrs/ndevs/{index}"] = each.netdev
    files[f"ports/1/gids/{len(each.gids)}"] = EMPTY_GID
    files.update({f"ports/1/counters/{name}": str(count) for name, count in each.counters.items()})
    files.update({f"ports/1/hw_counters/{name}": str(count) for name, count in each.hw_counters.items()})
    for name, text in files.items():
        _write(real / name, text)
    if each.netdev:
        _write(root / "sys/class/net" / each.netdev / "mtu", str(each.mtu))


def _gid(text: str) -> str:
    if "." not in text:
        return text
    packed = ip_address(text).packed.hex()
    return f"0000:0000:0000:0000:0000:ffff:{packed[:4]}:{packed[4:]}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


_KNOWN: dict[tuple[str, bool], Facts] = {}


def read_back(adapters: Iterable[Adapter], *, peermem: bool = True) -> Facts:
    """What the probe tells of them. The verbs library is as on a host that has it."""
    own = tuple(adapters)
    key = repr(own), peermem
    if key not in _KNOWN:
        _KNOWN[key] = _read_back(own, peermem)
    return _KNOWN[key]


def _read_back(adapters: tuple[Adapter, ...], peermem: bool) -> Facts:
    with tempfile.TemporaryDirectory() as directory:
        lay_out(Path(directory), adapters, peermem=peermem)
        answer = rdma.rdma({"PATH": ""}, directory)
    if answer["rdma"]:
        answer["verbs_library"] = True
    return decode_facts("host", answer)


def equipped(of_host: Mapping[int, Iterable[Adapter]], *, peermem: bool = True) -> Alteration:
    """Host number -> its adapters, as the probe reads them, with the interfaces under them."""

    def alter(facts: Cluster) -> Cluster:
        for number, adapters in of_host.items():
            host, own = f"node{number}", tuple(adapters)
            told = read_back(own, peermem=peermem)
            links = tuple(
                nic(
                    each.netdev,
                    each.address,
                    mtu=each.mtu,
                    speed=each.speed,
                    index=10 + index,
                    carrier_changes=each.changes,
                )
                for index, each in enumerate(own)
                if each.netdev and each.address and not each.software
            )
            facts = on(
                host,
                rdma=told.rdma,
                verbs_library=told.verbs_library,
                verbs_devices=told.verbs_devices,
                peer_memory=told.peer_memory,
                interfaces=(*facts[host].interfaces, *links),
            )(facts)
        return facts

    return alter

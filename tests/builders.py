"""Healthy hosts, of which a test alters one thing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import msgspec

from clusterctl.facts.gpu import Gpu, NvidiaSmi
from clusterctl.facts.machine import Filesystem, KernelLog, Limits, Login, Logind
from clusterctl.facts.model import (
    Address,
    Dial,
    Facts,
    Interface,
    InterfaceKind,
    Name,
    PortKind,
    Python,
    Reachability,
    TorchImport,
)
from clusterctl.facts.rdma import RdmaPort
from clusterctl.inventory.model import Host, Inventory
from clusterctl.network.model import Setting

GIB = 1024**3


def nic(
    name: str, address: str, *, kind: InterfaceKind = "physical", prefix: int = 24, **changes: object
) -> Interface:
    """A running interface with one global address; ``changes`` are fields of Interface."""
    link = Interface(
        name=name,
        index=2,
        kind=kind,
        up=True,
        running=True,
        carrier=True,
        operstate="up",
        mtu=1500,
        speed=10_000,
        mac=f"02:{abs(hash(address)) % 0xFFFFFFFF:08x}",
        addresses=(Address("inet6" if ":" in address else "inet", address, prefix),),
    )
    return msgspec.structs.replace(link, **changes)


LOOPBACK = Interface(
    name="lo",
    index=1,
    kind="loopback",
    up=True,
    running=True,
    carrier=True,
    mtu=65536,
    addresses=(Address("inet", "127.0.0.1", 8, "host"),),
)
DOCKER0 = nic("docker0", "172.17.0.1", kind="bridge", prefix=16, speed=None, mac="02:42:00:00:00:01")
IB_PORT = RdmaPort(
    device="mlx5_0",
    port=1,
    state="4: ACTIVE",
    physical_state="5: LinkUp",
    rate=200.0,
    link_layer="InfiniBand",
    lid=3,
    sm_lid=1,
    firmware="20.1",
)


def gpu(index: int = 0, **changes: object) -> Gpu:
    card = Gpu(
        index=index,
        uuid=f"GPU-{index}",
        name="NVIDIA A100-SXM4-80GB",
        memory_total=80 * GIB,
        memory_used=4 * 1024**2,
        driver="550.54.15",
        compute_mode="Default",
        mig_mode="Disabled",
        persistence="Enabled",
        pcie_width=16,
        pcie_width_max=16,
        throttle=0,
        remap_pending=False,
        remap_failed=False,
        bus=f"00000000:{index + 16:02X}:00.0",
    )
    return msgspec.structs.replace(card, **changes)


def healthy(number: int, *, gpus: int = 0, **changes: object) -> Facts:
    """Facts of ``node<number>`` at 10.0.0.<number>, without GPUs unless asked; ``changes`` are fields."""
    host = f"node{number}"
    address = f"10.0.{number // 250}.{number % 250 + 1}"
    facts = Facts(  # noqa: S604 (a field of that name, no call of a shell)
        host=host,
        hostname=host,
        machine_id=f"machine-{number}",
        boot_id=f"boot-{number}",
        user="alice",
        uid=1000,
        home="/home/alice",
        shell="/bin/bash",
        kernel="6.1.0-18-amd64",
        os_release="Debian GNU/Linux 12 (bookworm)",
        architecture="x86_64",
        cpus=16,
        cpus_online=16,
        load=0.1,
        capabilities=0,
        neighbours=1024,
        login=Login(seconds=0.02, cpu=0.01),
        logind=Logind(remove_ipc=True, kill_processes=False, linger=True),
        kernel_log=KernelLog(),
        memory_total=64 * GIB,
        memory_available=60 * GIB,
        clock_offset=0.002,
        clock_error=0.005,
        path="/usr/local/bin:/usr/bin:/bin",
        ssh_address=address,
        ssh_peer="10.0.0.254",
        interfaces=(LOOPBACK, nic("eth0", address, prefix=16)),
        default_device="eth0",
        firewall="iptables",
        nvidia=nvidia(host, gpus),
        filesystems=(
            Filesystem(role="root", path="/", total=500 * GIB, free=300 * GIB, inodes_free_percent=90.0),
            Filesystem(role="tmp", path="/tmp", total=500 * GIB, free=300 * GIB, inodes_free_percent=90.0),
            Filesystem(role="home", path="/home/alice", total=500 * GIB, free=300 * GIB),
            Filesystem(role="shm", path="/dev/shm", total=32 * GIB, free=32 * GIB),
        ),
        limits=Limits(memlock=None, nofile=1048576, stack=8 * 1024**2, nproc=100_000),
        python=Python(
            executable="/opt/venv/bin/python",
            requested="/opt/venv/bin/python",
            version="3.11.7",
            packages={
                "torch": "2.5.1",
                "deepspeed": "0.16.0",
                "transformers": "4.46.0",
                "accelerate": "1.1.0",
                "datasets": "3.1.0",
                "tokenizers": "0.20.3",
                "numpy": "1.26.4",
                **({"nvidia-nccl-cu12": "2.21.5", "triton": "3.1.0"} if gpus else {}),
            },
            torch_cuda="12.4" if gpus else "",
            torch_git="a8d6afb511a69687bbb2b7e88a3cf67917e1697e",
        ),
        torch=TorchImport(
            ok=True,
            cuda_available=gpus > 0,
            device_count=gpus,
            nccl_version="2.21.5" if gpus else "",
            blocked=0.3,
        ),
        names=(Name(host, (address,)),),
        workdir_exists=True,
    )
    return msgspec.structs.replace(facts, **changes)


def nvidia(host: str, gpus: int) -> NvidiaSmi:
    if not gpus:
        return NvidiaSmi(present=False, devices=0)
    return NvidiaSmi(
        present=True,
        exit_code=0,
        seconds=0.4,
        cuda="12.4",
        devices=gpus,
        bound=("nvidia",) * gpus,
        kernel_driver="550.54.15",
        gpus=tuple(gpu(index, uuid=f"GPU-{host}-{index}") for index in range(gpus)),
    )


def cluster(count: int = 3, *, gpus: int = 0) -> dict[str, Facts]:
    return {f"node{number}": healthy(number, gpus=gpus) for number in range(1, count + 1)}


def altered(facts: dict[str, Facts], host: str, **changes: object) -> dict[str, Facts]:
    """The same cluster with fields of one host changed."""
    return {**facts, host: msgspec.structs.replace(facts[host], **changes)}


def everywhere(hosts: Iterable[str], **values: str) -> dict[str, tuple[Setting, ...]]:
    """Variables as ``--env`` sets them, for every host alike."""
    return {host: tuple(Setting(name, value, "--env") for name, value in values.items()) for host in hosts}


def inventory(names: Iterable[str], slots: int = 1) -> Inventory:
    hosts = (Host(name, slots, tuple(range(slots)), line) for line, name in enumerate(names, start=1))
    return Inventory("hostfile", tuple(hosts))


def mesh(facts: dict[str, Facts], *, master_port: int = 29500) -> Reachability:
    """Every host reached every IPv4 address of every other one, on the NIC of the same name or position."""
    dials = []
    master = next(iter(facts), "")
    for source, from_host in facts.items():
        for target, to_host in facts.items():
            if source == target:
                continue
            for near, far in zip(from_host.interfaces[1:], to_host.interfaces[1:], strict=False):
                for kind in get_args(PortKind):
                    if kind == "master" and target != master:
                        continue
                    dials.append(
                        Dial(
                            source=source,
                            target=target,
                            address=far.addresses[0].address,
                            port=master_port if kind == "master" else 40000,
                            kind=kind,
                            result="ok",
                            bulk=kind == "ephemeral",
                            seconds=0.001,
                            seen=near.addresses[0].address,
                            device=near.name,
                        )
                    )
    return Reachability(dials=tuple(dials), master_port=master_port, asked=True)

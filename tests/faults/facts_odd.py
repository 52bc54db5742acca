"""Clusters that look strange and are healthy: not one finding above a note."""

from __future__ import annotations

from typing import Any

from clusterctl.facts.gpu import GpuProcess, NvidiaSmi
from clusterctl.facts.machine import Cgroup, KernelLog, Limits, Logind, OomKill, Xid
from clusterctl.facts.model import Name
from clusterctl.facts.rdma import RdmaPort
from tests.builders import DOCKER0, GIB, nic
from tests.fact_sets import (
    Alteration,
    Case,
    Cluster,
    beside,
    card,
    disk,
    link,
    on,
    variable,
)

MIB = 1024**2
ROCE = RdmaPort(
    device="mlx5_0",
    port=1,
    state="4: ACTIVE",
    physical_state="5: LinkUp",
    rate=100.0,
    link_layer="Ethernet",
    netdev="eth0",
    netdev_mtu=1500,
    firmware="20.1",
)
ROOT = {"user": "root", "uid": 0, "home": "/root", "capabilities": (1 << 41) - 1}
NO_ROUTE = {"default_device": ""}


def each(*of_host: dict[str, Any]) -> Alteration:
    """Other changes for node1, node2, ..."""

    def alter(facts: Cluster) -> Cluster:
        for number, changes in enumerate(of_host, start=1):
            facts = on(f"node{number}", **changes)(facts)
        return facts

    return alter


def odd(name: str, *alter: Alteration, **fields: Any) -> Case:
    return Case(name=name, alter=alter, **fields)


ODD = [
    odd("nothing odd"),
    odd("nothing odd, with GPUs", gpus=8),
    odd("one host", hosts=1, gpus=2),
    odd(
        "containers with one private address",
        beside(**dict.fromkeys(("node1", "node2", "node3"), nic("eth1", "172.17.0.2", kind="veth"))),
    ),
    odd("two hosts", hosts=2),
    odd("256 hosts", hosts=256, gpus=8),
    odd(
        "nvidia-smi in a CPU image",
        on("*", nvidia=NvidiaSmi(present=True, exit_code=9, devices=0, error="failed")),
    ),
    odd(
        "nvidia-smi that finds no device", on("node2", nvidia=NvidiaSmi(present=True, exit_code=6, devices=0))
    ),
    odd("a desktop card under nouveau", on("node2", nvidia={"devices": 1, "bound": ("nouveau",)})),
    odd(
        "a card that a virtual machine has", on("*", nvidia={"devices": 2, "bound": ("vfio-pci", "vfio-pci")})
    ),
    odd(
        "AMD GPUs and a torch for ROCm",
        on("*", nvidia={"amd": 8}, python={"torch_hip": "6.2", "torch_cuda": ""}),
    ),
    odd(
        "a job on a card outside the slots",
        card("node2", (6, 7), processes=(GpuProcess(7, 60 * GIB, "bob", "python"),), memory_used=60 * GIB),
        gpus=8,
        slots=4,
    ),
    odd(
        "ECC errors on a card outside the slots",
        card("node2", (7,), ecc_errors=9, throttle=0x40),
        gpus=8,
        slots=4,
    ),
    odd("MIG on a card outside the slots", card("*", (7,), mig_mode="Enabled"), gpus=8, slots=7),
    odd("an idle card says so", card("*", range(8), throttle=0x1), gpus=8),
    odd("a power cap that is set", card("*", range(8), throttle=0x4), gpus=8),
    odd("a board with half the lanes in one slot", card("*", (1,), pcie_width=8), gpus=2),
    odd("no persistence anywhere", card("*", range(2), persistence="Disabled"), gpus=2),
    odd("cards without NVLink bridges", card("*", range(2), nvlinks=(0, 4)), gpus=2),
    odd("four GPUs, two used", on("*"), gpus=4, slots=2),
    odd("RTX 4090 under a new driver", card("*", range(2), name="NVIDIA GeForce RTX 4090"), gpus=2),
    odd(
        "an Xid of a program's own",
        on("node2", kernel_log=KernelLog(xids=(Xid(code=31, device="0000:10:00", age=60),))),
        gpus=2,
    ),
    odd(
        "an Xid of last week",
        on("node2", kernel_log=KernelLog(xids=(Xid(code=79, device="0000:10:00", age=6e5),))),
        gpus=2,
    ),
    odd("a kernel log for root only", on("*", kernel_log=KernelLog(error="Operation not permitted")), gpus=2),
    odd("an old driver with forward compatibility", on("*", nvidia={"cuda": "11.4"}), gpus=2),
    odd(
        "libnccl of conda",
        on(
            "*",
            python={"executable": "/c/envs/t/bin/python"},
            torch={"nccl_path": "/c/envs/t/lib/libnccl.so.2"},
        ),
        gpus=2,
    ),
    odd(
        "libnccl of the system under a torch without one",
        on(
            "*",
            python={"packages": {"nvidia-nccl-cu12": None}},
            torch={"nccl_path": "/usr/lib/x86_64-linux-gnu/libnccl.so.2"},
        ),
        gpus=2,
    ),
    odd("all cards named in CUDA_VISIBLE_DEVICES", variable("*", "CUDA_VISIBLE_DEVICES", "0,1"), gpus=2),
    odd(
        "a read-only root that is full",
        disk("*", "root", total=2 * GIB, free=0, read_only=True, writable=False),
    ),
    odd("a small but empty /tmp", disk("*", "tmp", total=256 * MIB, free=250 * MIB, device="9")),
    odd("9 of 1000 TiB free", disk("*", "home", total=1000 * 1024 * GIB, free=9 * 1024 * GIB)),
    odd("a file system that makes inodes as it goes", disk("*", "home", inodes_free_percent=None)),
    odd(
        "root with small limits and RDMA",
        on(
            "*",
            **ROOT,
            limits=Limits(memlock=64 * 1024, nofile=65536, nproc=100, stack=8 * MIB),
            rdma=(ROCE,),
            verbs_library=True,
        ),
        gpus=2,
    ),
    odd(
        "1024 open files on a few hosts",
        on("*", limits=Limits(memlock=8 * MIB, nofile=1024, stack=8 * MIB, nproc=63000)),
    ),
    odd("all hosts busy", on("*", load=60.0)),
    odd("all hosts limited to half of their cores", on("*", cpus=8)),
    odd(
        "a container with a limit of its own",
        on("*", cgroup=Cgroup(memory=16 * GIB, memory_path="/docker/4f2a")),
    ),
    odd(
        "16, 32 and 64 GiB",
        each(
            {"memory_total": 16 * GIB, "memory_available": 14 * GIB},
            {"memory_total": 32 * GIB, "memory_available": 30 * GIB},
            {},
        ),
    ),
    odd(
        "a kill for memory in somebody's container",
        on("node2", kernel_log=KernelLog(oom_kills=(OomKill(command="java", age=60, cgroup="/docker/1"),))),
    ),
    odd(
        "three hosts of 64 GiB and two of 32",
        on("node4 node5", memory_total=32 * GIB, memory_available=30 * GIB),
        hosts=5,
    ),
    odd(
        "another model of machine with half of the memory",
        on(
            "node3",
            product="SYS-4028",
            cpus=8,
            cpus_online=8,
            memory_total=32 * GIB,
            memory_available=30 * GIB,
        ),
    ),
    odd("a profile.py in PYTHONPATH", on("*", python={"shadows": ("/home/alice/project/profile.py",)})),
    odd(
        "limits nobody meets", on("*", limits={"address_space": 4096 * GIB, "file_size": 4096 * GIB}), gpus=8
    ),
    odd("no logind in a container", on("*", logind=None)),
    odd(
        "logind as Debian and Ubuntu set it",
        on("*", logind=Logind(remove_ipc=True, kill_processes=False, session=True)),
    ),
    odd("RemoveIPC on one host", on("node2", logind=Logind(remove_ipc=True, session=True))),
    odd("RemoveIPC for root", on("*", **ROOT, logind=Logind(remove_ipc=True))),
    odd("127.0.1.1 as on Debian", each(*({"names": (Name(f"node{n}", ("127.0.1.1",)),)} for n in (1, 2, 3)))),
    odd("other names for the interface", link("node2", name="enp5s0"), on("node2", default_device="enp5s0")),
    odd("docker on all hosts", beside(node1=DOCKER0, node2=DOCKER0, node3=DOCKER0)),
    odd(
        "a BlueField's own cable on all hosts",
        beside(
            **{
                f"node{n}": nic("tmfifo_net0", "192.168.100.2", kind="virtual", prefix=30, speed=None)
                for n in (1, 2, 3)
            }
        ),
    ),
    odd(
        "libvirt on all hosts",
        beside(**{f"node{n}": nic("virbr0", "192.168.122.1", kind="bridge", speed=None) for n in (1, 2, 3)}),
    ),
    odd(
        "a second network that all have, slower",
        beside(**{f"node{n}": nic("eth1", f"10.9.0.{n}", speed=1000) for n in (1, 2, 3)}),
    ),
    odd("a faster network on the head only", beside(node1=nic("eth1", "10.9.0.1", speed=100_000))),
    odd("a wide local port range", on("*", port_range=(1024, 65535)), traffic=True),
    odd("no way to the world", on("*", **NO_ROUTE)),
    odd("only the head has a way to the world", on("node2 node3", **NO_ROUTE)),
    odd("one proxy for all", variable("*", "https_proxy", "http://proxy:3128")),
    odd(
        "a shared home with nothing that compiles",
        on("*", shared_token="nfs4 filer:/home 7", python={"packages": {"deepspeed": None}}),
    ),
    odd(
        "a shared home, caches elsewhere",
        on("*", shared_token="nfs4 filer:/home 7"),
        gpus=2,
        env={"TRITON_CACHE_DIR": "/tmp/t", "TORCH_EXTENSIONS_DIR": "/tmp/x"},
    ),
    odd("OMP_NUM_THREADS on all hosts", variable("*", "OMP_NUM_THREADS", "8")),
    odd("one accelerate file on all hosts", on("*", accelerate_config="mixed_precision: bf16")),
    odd(
        "locales that are missing",
        on("node2", complaints="bash: warning: setlocale: LC_ALL: cannot change locale (en_US.UTF-8)\n"),
    ),
    odd("mesg without a terminal", on("node2", complaints="mesg: ttyname failed: Inappropriate ioctl\n")),
    odd(
        "a banner on stderr",
        on("node2", complaints="Access is denied to all others\nWARNING: failed logins are kept\n"),
    ),
    odd("words on stderr that name no error", on("node2", complaints="Loading modules\n")),
    odd(
        "start-up files that work hard on a busy host",
        on("*", load=64.0, login={"seconds": 9.0, "cpu": 1.5}),
    ),
    odd("cold disks after a boot", on("*", torch={"seconds": 20.0, "blocked": 15.0})),
    odd("a slow import on a busy host", on("node2", torch={"seconds": 40.0, "blocked": 0.8})),
    odd(
        "kernels of several ages", each({"kernel": "5.15.0-105-generic"}, {"kernel": "6.8.0-31-generic"}, {})
    ),
    odd("an el8 kernel with a low number", on("*", kernel="4.18.0-553.el8.x86_64")),
    odd("two distributions", on("node2", os_release="Ubuntu 24.04 LTS")),
    odd("users of different names and separate homes", on("node2", user="bob", uid=1001)),
    odd("RoCE that a CPU cluster does not use", on("*", rdma=(ROCE,), verbs_library=False)),
    odd("GPUs that draw less by design", card("*", range(4), power_limit=300.0), gpus=4),
    odd("no nvidia_peermem anywhere", on("*", rdma=(ROCE,), verbs_library=True, peer_memory=False), gpus=2),
    odd("a steady trickle of errors everywhere", link("*", errors=5000)),
    odd(
        "forward compatibility, asked with --quick",
        on("*", nvidia={"cuda": "11.4"}, torch=None),
        variable("*", "LD_LIBRARY_PATH", "/usr/local/cuda/compat"),
        gpus=2,
        quick=True,
    ),
    odd("--quick", on("*", torch=None), gpus=2, quick=True),
    odd("docker on both of two hosts", beside(node1=DOCKER0, node2=DOCKER0), hosts=2),
]

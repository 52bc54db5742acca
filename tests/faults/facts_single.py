"""One fault in a healthy cluster: exactly its code on exactly its hosts, and nothing else above a note."""

from __future__ import annotations

from typing import Any

import msgspec

from clusterctl.facts.gpu import GpuProcess, NvidiaSmi
from clusterctl.facts.machine import Cgroup, KernelLog, Limits, Logind, OomKill, Xid
from clusterctl.facts.model import Address, Name
from clusterctl.facts.rdma import RdmaPort
from clusterctl.transport.protocol import Failure
from tests.builders import GIB, IB_PORT, gpu, nic
from tests.fact_sets import (
    Alteration,
    Case,
    beside,
    card,
    disk,
    link,
    on,
    variable,
)

MIB = 1024**2


ROCE = {"link_layer": "Ethernet", "netdev": "eth0", "netdev_mtu": 9000, "gids": (3,)}


def ib(**changes: Any) -> Alteration:
    """InfiniBand on all hosts, altered on node2."""
    every = on("*", rdma=(IB_PORT,), verbs_library=True)
    if not changes:
        return lambda facts: on("node2", rdma=())(every(facts))
    port = {name: changes.pop(name) for name in tuple(changes) if name in IB_PORT.__struct_fields__}
    fields = {name: getattr(IB_PORT, name) for name in IB_PORT.__struct_fields__}
    return lambda facts: on("node2", rdma=(RdmaPort(**{**fields, **port}),), **changes)(every(facts))


def roce(**changes: Any) -> Alteration:
    """RoCE on all hosts, altered on node2."""
    port = RdmaPort(**{**{name: getattr(IB_PORT, name) for name in IB_PORT.__struct_fields__}, **ROCE})
    every = on("*", rdma=(port,), verbs_library=True)
    return lambda facts: on("node2", rdma=(msgspec.structs.replace(port, **changes),))(every(facts))


def fault(code: str, name: str, *alter: Alteration, at: str = "node2", **fields: Any) -> Case:
    return Case(name=f"{code}: {name}", alter=alter, expected={code: at}, **fields)


def broken(stage: Any, message: str) -> dict[str, Any]:
    return {"failures": (Failure(host="node2", stage=stage, message=message, hint=""),)}


def unread(what: str, **fields: Any) -> Case:
    return fault(
        "env.facts",
        f"{what} could not be read",
        on("node2", errors=(f"{what}: no answer within 10 s",)),
        **fields,
    )


def job(memory: int) -> tuple[GpuProcess, ...]:
    return (GpuProcess(4711, memory, "bob", "python train.py"),)


def xid(code: int) -> KernelLog:
    return KernelLog(xids=(Xid(code=code, device="0000:11:00", age=600.0, text="pid=1, GPU has fallen"),))


SEVERAL = {"torch": "2.5.1", "numpy": "1.26.4", "triton": "3.1.0", "peft": "0.14.0"}
SLOW = {f"node{n}": nic("eth0", f"10.0.0.{n + 1}", prefix=16, speed=1000) for n in (1, 2, 3)}
FAST = {f"node{n}": nic("ib1", f"10.9.0.{n}", speed=100_000) for n in (1, 3)}


def slow_and(**extra: Any) -> tuple[Alteration, ...]:
    """1 Gb/s on all hosts and 100 Gb/s besides, which node2 has only as given."""
    return (
        link("*", speed=1000),
        beside(**FAST),
        beside(node2=nic("ib1", "10.9.0.2", **extra)) if extra else on("*"),
    )


FAULTS = [
    fault(
        "net.interfaces",
        "lo is down",
        lambda facts: on(
            "node2",
            interfaces=(
                msgspec.structs.replace(facts["node2"].interfaces[0], up=False),
                *facts["node2"].interfaces[1:],
            ),
        )(facts),
    ),
    fault("ssh.reach", "down", **broken("connect", "no answer from 10.0.0.3 port 22 within 10 s")),
    fault(
        "ssh.reach",
        "frozen, among many",
        **broken("banner", "10.0.0.3 accepts connections but sent no SSH greeting within 10 s"),
        hosts=12,
    ),
    fault(
        "ssh.reach",
        "one sshd that hangs up, among many",
        **broken("dropped", "sshd on 10.0.0.3 closed the connection before its greeting"),
        hosts=12,
    ),
    fault("ssh.path-mtu", "large packets lost", **broken("path", "of its answer the large packets are lost")),
    fault("ssh.hostkey", "changed", **broken("hostkey", "the host key of node2 has changed")),
    fault(
        "ip.duplicate",
        "another machine answers at the host's address",
        beside(node3=nic("eth0:1", "10.0.0.99")),
        at="node2 node3",
        **broken("hostkey", "the host key of 10.0.0.99 has changed: it now shows ssh-ed25519 SHA256:x"),
    ),
    fault("ssh.auth", "refused", **broken("auth", "node2 does not let alice in")),
    fault("env.shell", "exit in a start-up file", **broken("exec", "the login shell ended with 0")),
    fault("env.noninteractive", "no python at all", **broken("python", "no Python 3.8 or newer found there")),
    fault("env.result", "too late", **broken("deadline", "no answer within 60 s")),
    fault(
        "env.noninteractive",
        "no python",
        on("node2", python={"error": "/opt/venv/bin/python does not exist"}, torch=None),
    ),
    fault("env.noise", "a banner", on("node2", noise="Welcome\n")),
    fault(
        "env.stderr",
        "a file that is gone",
        on("node2", complaints="/home/a/.bashrc: line 7: /opt/x/setup.sh: No such file or directory\n"),
    ),
    fault("env.login-time", "12 s", on("node2", login={"seconds": 12.0, "cpu": 0.1})),
    *(
        unread(what)
        for what in (
            "system",
            "settings",
            "disks",
            "shared memory",
            "interfaces",
            "routes",
            "rdma",
            "names",
            "python",
            "workdir",
            "kernel log",
        )
    ),
    unread("gpus", gpus=2),
    fault(
        "host.name-clash",
        "one name twice",
        on("node2", hostname="node1", names=(Name("node1", ("10.0.0.3",)),)),
        at="node1 node2",
    ),
    fault(
        "host.name-clash",
        "one name twice, known to both as the other's address",
        on("node2", hostname="node1", names=(Name("node1", ("10.0.0.2",)),)),
        at="node1 node2",
    ),
    fault(
        "host.slots",
        "one card fewer",
        on(
            "node2",
            nvidia={"devices": 1, "bound": ("nvidia",), "gpus": (gpu(0, uuid="x"),)},
            torch={"device_count": 1},
        ),
        gpus=2,
    ),
    fault(
        "host.user",
        "another uid on a shared home",
        on("*", shared_token="t", python={"packages": {"deepspeed": None}}),
        on("node2", uid=1001),
        at="node1 node2 node3",
    ),
    fault("sw.python", "3.10", on("node2", python={"version": "3.10.2"})),
    fault("sw.torch", "older", on("node2", python={"packages": {"torch": "2.4.0"}})),
    fault(
        "sw.torch",
        "missing",
        on("node2", python={"packages": {"torch": None}, "torch_cuda": None}, torch=None),
    ),
    fault(
        "sw.torch",
        "another interpreter, without any package",
        on("*", python={"packages": SEVERAL}),
        on("node2", python={"packages": dict.fromkeys((*SEVERAL, "deepspeed", "transformers"))}, torch=None),
    ),
    fault("sw.torch", "for another CUDA", on("node2", python={"torch_cuda": "11.8"}), gpus=2),
    fault("sw.torch-build", "another revision", on("node2", python={"torch_git": "0123456789abcdef"})),
    fault("sw.torch-build", "another tag", on("node2", python={"packages": {"torch": "2.5.1+nv24"}}), gpus=1),
    fault(
        "sw.cpu-build",
        "the CPU wheel",
        on(
            "node2",
            python={"torch_cuda": "", "packages": {"torch": "2.5.1+cpu"}},
            torch={"cuda_available": False, "device_count": 0, "nccl_version": ""},
        ),
        gpus=2,
    ),
    fault(
        "sw.torch-import", "fails", on("node2", torch={"ok": False, "error": "ImportError: libcudart.so.12"})
    ),
    fault("sw.import-time", "12 s of waiting", on("node2", torch={"seconds": 14.0, "blocked": 12.0})),
    fault("sw.deepspeed", "older", on("node2", python={"packages": {"deepspeed": "0.14.0"}})),
    *(
        fault(
            f"sw.{name}",
            "differs",
            on("*", python={"packages": {name: "2.1"}}),
            on("node2", python={"packages": {name: "1.9"}}),
            gpus=1,
        )
        for name in (
            "transformers",
            "accelerate",
            "datasets",
            "tokenizers",
            "numpy",
            "triton",
            "flash-attn",
            "peft",
            "bitsandbytes",
        )
    ),
    fault(
        "sw.flash-attn", "missing", on("node1 node3", python={"packages": {"flash-attn": "2.7.0"}}), gpus=1
    ),
    fault("sw.nccl-loaded", "older", on("node2", torch={"nccl_version": "2.18.1"}), gpus=2),
    fault(
        "sw.nccl-shadow",
        "loaded from elsewhere",
        on("node2", torch={"nccl_path": "/opt/nccl/lib/libnccl.so.2.14.3"}),
        gpus=2,
    ),
    fault(
        "sw.nccl-shadow",
        "first in LD_LIBRARY_PATH",
        on("node2", python={"nccl_first": "/opt/nccl/lib/libnccl.so.2.14.3"}),
        variable("node2", "LD_LIBRARY_PATH", "/opt/nccl/lib"),
        gpus=2,
    ),
    fault(
        "sw.net-plugin",
        "missing on one host",
        on("node1 node3", python={"net_plugin": "/opt/amazon/ofi-nccl/lib/libnccl-net.so"}),
        gpus=1,
    ),
    fault("sw.nccl-env", "OMP_NUM_THREADS on one host", variable("node2", "OMP_NUM_THREADS", "999")),
    fault(
        "sw.nccl-env",
        "another value",
        variable("node1 node3", "NCCL_DEBUG", "WARN"),
        variable("node2", "NCCL_DEBUG", "TRACE"),
    ),
    fault(
        "sw.nccl-env",
        "one card hidden",
        variable("node2", "CUDA_VISIBLE_DEVICES", "0"),
        on("node2", torch={"device_count": 1}),
        gpus=2,
    ),
    fault("sw.nccl-debug", "a level of Python's", variable("node2", "NCCL_DEBUG", "ERROR")),
    fault(
        "sw.ds-env",
        "an interface's name",
        variable("node2", "NCCL_SOCKET_IFNAME", "eth0", "/home/alice/.deepspeed_env:1"),
    ),
    fault(
        "sw.pythonpath",
        "a json.py that breaks python",
        on(
            "node2",
            python={
                "error": "/opt/venv/bin/python does not start: AttributeError: no attribute 'dumps'",
                "shadows": ("/home/alice/lib/json.py",),
            },
            torch=None,
        ),
    ),
    fault(
        "sw.pythonpath",
        "a queue.py that breaks the import of torch",
        on(
            "node2",
            python={"shadows": ("/home/alice/lib/queue.py",)},
            torch={"ok": False, "error": "ImportError: cannot import name 'Empty' from 'queue'"},
        ),
    ),
    fault("sw.arch", "aarch64", on("node2", architecture="aarch64")),
    fault("sw.proxy", "on one host", variable("node2", "https_proxy", "http://proxy:3128")),
    fault("sw.proxy", "upper case, on one host", variable("node2", "HTTP_PROXY", "http://proxy:3128")),
    fault(
        "sw.accelerate-config",
        "on one host",
        on("node2", accelerate_config="mixed_precision: fp16, num_machines: 2"),
    ),
    fault("sw.hub", "no way to the world on one host", on("node2", default_device="")),
    fault(
        "sw.driver",
        "older",
        on(
            "node2",
            nvidia={
                "kernel_driver": "535.1",
                "gpus": tuple(gpu(i, uuid=f"n2-{i}", driver="535.1") for i in range(2)),
            },
        ),
        gpus=2,
    ),
    fault(
        "sw.cuda-compat",
        "the driver is too old",
        on("node2", nvidia={"cuda": "11.4"}, torch=None),
        gpus=2,
        quick=True,
    ),
    fault("sw.kernel", "5.4", on("node2", kernel="5.4.0-150-generic")),
    fault(
        "gpu.smi",
        "fallen off the bus",
        on("node2", nvidia={"exit_code": 15, "gpus": ()}, torch=None),
        gpus=2,
        quick=True,
    ),
    fault(
        "gpu.smi",
        "no driver loaded",
        on("node2", nvidia={"exit_code": 9, "gpus": (), "kernel_driver": ""}, torch=None),
        gpus=2,
        quick=True,
    ),
    fault(
        "gpu.smi",
        "no driver installed",
        on("node2", nvidia=NvidiaSmi(devices=2, bound=("", "")), torch=None),
        gpus=2,
        quick=True,
    ),
    fault(
        "gpu.smi",
        "nouveau",
        on("node2", nvidia=NvidiaSmi(devices=2, bound=("nouveau", "nouveau")), torch=None),
        gpus=2,
        quick=True,
    ),
    fault(
        "gpu.smi",
        "[GPU requires reset] with exit 0",
        card("node2", (1,), faults=("memory.used: [GPU requires reset]",)),
        gpus=2,
    ),
    fault(
        "gpu.smi",
        "[Unknown Error] with exit 0",
        card("node2", (1,), faults=("utilization.gpu: [Unknown Error]",)),
        gpus=2,
    ),
    fault(
        "gpu.smi-hang",
        "no end",
        on("node2", nvidia={"exit_code": None, "gpus": (), "error": "no answer within 20 s"}, torch=None),
        gpus=2,
        quick=True,
    ),
    fault("gpu.smi-hang", "9 s", on("node2", nvidia={"seconds": 9.0}), gpus=2),
    fault(
        "gpu.lib-mismatch",
        "after an upgrade",
        on(
            "node2",
            nvidia={"exit_code": 18, "gpus": (), "error": "Driver/library version mismatch"},
            torch=None,
        ),
        gpus=2,
        quick=True,
    ),
    fault(
        "gpu.count",
        "gone from bus and driver alike",
        on("node2", nvidia={"devices": 7, "gpus": tuple(gpu(i, uuid=f"n2-{i}") for i in range(7))}),
        gpus=8,
        declared=4,
    ),
    fault("gpu.present", "nothing tells", on("node2", nvidia=NvidiaSmi(), torch=None), gpus=2, quick=True),
    fault("gpu.cuda", "torch sees none", on("node2", torch={"cuda_available": False}), gpus=2),
    fault(
        "gpu.cuda",
        "torch sees none of those that CUDA_VISIBLE_DEVICES names",
        variable("*", "CUDA_VISIBLE_DEVICES", "0,1"),
        on("node2", torch={"cuda_available": False, "device_count": 0}),
        gpus=2,
    ),
    fault("gpu.model", "another card", card("node2", (1,), name="NVIDIA L4", memory_total=24 * GIB), gpus=2),
    fault("gpu.busy", "a job on one card", card("node2", (1,), processes=job(60 * GIB)), gpus=2),
    fault("gpu.busy", "memory that nobody shows", card("node2", (1,), memory_used=60 * GIB), gpus=2),
    fault("gpu.compute-mode", "prohibited", card("node2", (1,), compute_mode="Prohibited"), gpus=2),
    fault("gpu.compute-mode", "exclusive", card("node2", (1,), compute_mode="Exclusive_Process"), gpus=2),
    fault("gpu.mig", "on", card("node2", (1,), mig_mode="Enabled"), gpus=2),
    fault(
        "gpu.p2p",
        "RTX 5090 whose driver offers what they lack",
        on("*", nvidia={"p2p": False}),
        on("node2", nvidia={"p2p": True}),
        card("*", (0, 1), name="NVIDIA GeForce RTX 5090"),
        gpus=2,
    ),
    fault(
        "gpu.p2p",
        "RTX 4090 under an old driver",
        on("*", nvidia={"kernel_driver": "535.154.05"}),
        card("*", (0, 1), driver="535.154.05", name="NVIDIA GeForce RTX 4090"),
        gpus=2,
        at="node1 node2 node3",
    ),
    fault("gpu.xid", "79", on("node2", kernel_log=xid(79)), gpus=2),
    fault("gpu.xid", "94", on("node2", kernel_log=xid(94)), gpus=2),
    fault("gpu.ecc", "three", card("node2", (1,), ecc_errors=3), gpus=2),
    fault("gpu.remap", "pending", card("node2", (1,), remap_pending=True), gpus=2),
    fault("gpu.remap", "failed", card("node2", (1,), remap_failed=True), gpus=2),
    fault(
        "gpu.smi",
        "says nothing of its cards",
        on(
            "node2",
            nvidia={"gpus": (), "devices": 8, "error": "nothing that can be read: Segmentation fault"},
        ),
        gpus=8,
    ),
    fault("gpu.throttle", "heat", card("node2", (1,), throttle=0x40), gpus=2),
    fault("gpu.pcie", "8 of 16 lanes", card("node2", (1,), pcie_width=8), gpus=2),
    fault(
        "gpu.pcie", "8 of 16 lanes, one host", card("node1", (5,), pcie_width=8), hosts=1, gpus=8, at="node1"
    ),
    fault(
        "gpu.nvlink",
        "one down",
        card("*", range(4), nvlinks=(18, 0)),
        card("node2", (3,), nvlinks=(17, 1)),
        gpus=4,
    ),
    fault(
        "gpu.nvlink",
        "all down on one host",
        card("*", range(4), nvlinks=(18, 0)),
        card("node2", range(4), nvlinks=(0, 18)),
        gpus=4,
    ),
    fault("gpu.persistence", "off on one host", card("node2", (0, 1), persistence="Disabled"), gpus=2),
    fault("os.shm", "16 MiB", disk("node2", "shm", total=16 * MIB, free=16 * MIB)),
    fault("os.shm", "512 MiB with GPUs", disk("node2", "shm", total=512 * MIB, free=512 * MIB), gpus=2),
    fault("os.shm-stale", "left over", on("node2", stale_shm=("/dev/shm/nccl-a",))),
    fault("os.disk", "full", disk("node2", "tmp", free=GIB // 2)),
    fault("os.disk", "filling", disk("node2", "tmp", total=100 * GIB, free=15 * GIB)),
    fault("os.disk", "no inodes", disk("node2", "tmp", inodes_free_percent=1.0)),
    fault("os.write", "read-only home", disk("node2", "home", read_only=True, writable=False)),
    fault("os.write", "no home", disk("node2", "home", exists=False, total=0, free=0, writable=False)),
    fault(
        "os.write",
        "TMPDIR that is not there",
        disk("node2", "tmp", exists=False, total=0, free=0, writable=False),
    ),
    fault("os.noexec", "/tmp", disk("node2", "tmp", noexec=True)),
    fault("os.noexec", "home", disk("node2", "home", noexec=True)),
    fault(
        "os.memlock",
        "64 KiB",
        ib(limits=Limits(memlock=65536, nofile=65536, stack=8 * MIB, nproc=90_000)),
        gpus=2,
    ),
    fault(
        "os.memlock",
        "64 KiB for root in a container",
        ib(limits=Limits(memlock=65536, nofile=65536, stack=8 * MIB), uid=0, capabilities=0xA80425FB),
        gpus=2,
    ),
    fault("os.nofile", "256", on("node2", limits={"nofile": 256})),
    fault("os.nproc", "by ulimit", on("node2", limits={"nproc": 200})),
    fault("os.nproc", "by its control group", on("node2", cgroup=Cgroup(pids=100))),
    fault("os.stack", "unlimited", on("node2", limits={"stack": None}), gpus=2),
    fault("os.fsize", "1 GiB", on("node2", limits={"file_size": GIB})),
    fault("os.cpu-time", "an hour", on("node2", limits={"cpu_time": 3600})),
    fault("os.address-space", "20 GiB", on("node2", limits={"address_space": 20 * GIB})),
    fault(
        "os.address-space", "less than CUDA maps", on("node2", limits={"address_space": 128 * GIB}), gpus=2
    ),
    fault("os.null", "a plain file", on("node2", mounts={"null_device": "a plain file of 311 bytes"})),
    fault("os.memory", "nothing free", on("node2", memory_available=100 * MIB)),
    fault(
        "os.memory",
        "half of the others', on two of eight hosts",
        on("node2 node3", memory_total=32 * GIB, memory_available=30 * GIB),
        hosts=8,
        at="node2 node3",
    ),
    fault("os.memory", "half of the others'", on("node2", memory_total=32 * GIB, memory_available=30 * GIB)),
    fault(
        "os.memory",
        "MemoryMax of the session",
        on("node2", cgroup=Cgroup(memory=4 * GIB, memory_path="/user.slice/user-1000.slice")),
    ),
    fault(
        "os.memory",
        "MemoryMax of all sessions",
        on("*", cgroup=Cgroup(memory=4 * GIB, memory_path="/user.slice")),
        at="node1 node2 node3",
    ),
    fault("os.cpus", "a cpuset of one core", on("node2", cpus=1)),
    fault("os.cpus", "a quota of two cores", on("node2", cgroup=Cgroup(cpus=2.0))),
    fault("os.load", "one busy host", on("node2", load=30.0)),
    fault(
        "os.oom",
        "the machine ran out",
        on("node2", kernel_log=KernelLog(oom_kills=(OomKill(command="python3", age=900.0),))),
    ),
    fault(
        "os.oom",
        "the user's sessions ran out",
        on(
            "node2",
            kernel_log=KernelLog(
                oom_kills=(
                    OomKill(
                        command="python3", age=900.0, cgroup="/user.slice/user-1000.slice/session-3.scope"
                    ),
                )
            ),
        ),
    ),
    fault("os.reboot", "due", on("node2", reboot_required="linux-image-6.8.0-50-generic upgraded")),
    fault(
        "os.logout", "KillUserProcesses", on("node2", logind=Logind(remove_ipc=False, kill_processes=True))
    ),
    fault("time.skew", "40 s behind, of two hosts", on("node2", clock_offset=-40.0), hosts=2),
    fault(
        "time.skew",
        "half of the hosts",
        on("node2 node3", clock_offset=-40.0),
        hosts=4,
        at="node2 node3",
    ),
    fault(
        "time.skew",
        "two hosts of which neither agrees with this machine",
        on("node1", clock_offset=400.0),
        on("node2", clock_offset=-40.0),
        hosts=2,
        at="node1 node2",
    ),
    fault("time.skew", "40 s", on("node2", clock_offset=-40.0)),
    fault(
        "name.own", "does not resolve", on("node2", names=(Name("node2", (), "Name or service not known"),))
    ),
    fault(
        "name.own",
        "the resolver hangs",
        on("node2", names=(Name("node2", (), "no answer from the resolver within 8 s", late=True),)),
    ),
    fault("name.family", "IPv6 only", on("node2", names=(Name("node2", ("2001:db8::7",)),))),
    fault(
        "name.master",
        "unknown on one host",
        on(
            "node1 node3",
            names=(Name("node1", ("10.0.0.2",)), Name("node3", ("10.0.0.4",)), Name("head", ("10.0.0.2",))),
        ),
        on("node2", names=(Name("node2", ("10.0.0.3",)), Name("head", ()))),
        env={"MASTER_ADDR": "head"},
    ),
    fault(
        "name.master",
        "another machine's on one host",
        on("node1", names=(Name("node1", ("10.0.0.2",)), Name("head", ("10.0.0.2",)))),
        on("node2", names=(Name("node2", ("10.0.0.3",)), Name("head", ("10.0.0.99",)))),
        on("node3", names=(Name("node3", ("10.0.0.4",)), Name("head", ("10.0.0.2",)))),
        env={"MASTER_ADDR": "head"},
    ),
    fault("name.own", "another host's address", on("node2", names=(Name("node2", ("10.0.0.2",)),))),
    fault(
        "ip.duplicate",
        "a second network",
        beside(node1=nic("eth1", "10.7.0.9"), node2=nic("eth1", "10.7.0.9")),
        at="node1 node2",
    ),
    fault(
        "ip.duplicate",
        "where SSH arrives",
        beside(node2=nic("br0", "10.0.0.2", kind="bridge", prefix=32)),
        at="node1 node2",
    ),
    fault(
        "ip.duplicate",
        "beside other hosts' on virtual interfaces",
        link("*", kind="veth"),
        link("node2", addresses=(Address("inet", "10.0.0.3", 16), Address("inet", "10.0.0.4", 16))),
        at="node2 node3",
    ),
    fault(
        "ip.duplicate",
        "on containers' cards",
        beside(**{f"node{n}": nic("eth1", f"10.7.0.{min(n, 2)}", kind="veth") for n in (1, 2, 3)}),
        at="node2 node3",
    ),
    fault("net.carrier", "an address and no link", beside(node2=nic("eth1", "10.5.0.3", carrier=False))),
    fault("net.dual-subnet", "two in one", beside(node2=nic("eth1", "10.0.0.99", prefix=16))),
    fault("net.mtu", "9000", link("node2", mtu=9000)),
    fault("net.speed", "100 Mbit/s", link("node2", speed=100)),
    fault("net.wireless-overlay", "Wi-Fi on one host", link("node2", kind="wireless")),
    fault("net.faster", "no link on one host", *slow_and(carrier=False, running=False)),
    fault("net.faster", "no address on one host", *slow_and(addresses=())),
    fault("net.faster", "missing on one host", *slow_and()),
    fault("net.faster", "slow on one host", *slow_and(speed=1000)),
    fault(
        "net.faster",
        "a container's, without a link on one host",
        link("*", speed=1000),
        beside(**{f"node{n}": nic("eth1", f"10.9.0.{n}", kind="veth", speed=10_000) for n in (1, 3)}),
        beside(node2=nic("eth1", "10.9.0.2", kind="veth", carrier=False, running=False)),
    ),
    fault("net.flaps", "often", link("*", carrier_changes=3), link("node2", carrier_changes=120)),
    fault("net.neighbours", "too small a table", on("node2", neighbours=128), hosts=128),
    fault("net.portrange", "another range", on("node2", port_range=(50000, 60000))),
    fault("net.portrange", "few ports", on("node2", port_range=(50000, 50100))),
    fault(
        "net.ifname-user",
        "matches two",
        variable("node2", "NCCL_SOCKET_IFNAME", "eth", "/etc/nccl.conf:1"),
        beside(node2=nic("eth10", "10.66.0.1")),
    ),
    fault("net.gloo-name", "NCCL's syntax", variable("node2", "GLOO_SOCKET_IFNAME", "^lo")),
    fault("net.ifname-user", "loopback", variable("node2", "NCCL_SOCKET_IFNAME", "lo")),
    fault("net.gloo-name", "loopback", variable("node2", "GLOO_SOCKET_IFNAME", "lo")),
    fault("net.ifname-user", "no such name", variable("node2", "NCCL_SOCKET_IFNAME", "=eth7")),
    fault(
        "net.master-port",
        "inside the range, by the user's word",
        on("*", port_range=(1024, 65535)),
        traffic=True,
        env={"MASTER_PORT": "29500"},
        at="node1",
    ),
    fault("ib.present", "no device on one host", ib()),
    fault("ib.state", "down", ib(state="1: DOWN", physical_state="3: Disabled")),
    fault("ib.rate", "half", ib(rate=100.0)),
    fault("ib.linklayer", "Ethernet", ib(link_layer="Ethernet", netdev="eth0"), gpus=1),
    fault("ib.libs", "no libibverbs", ib(verbs_library=False), gpus=1),
    fault("ib.sm", "no subnet manager", ib(sm_lid=0)),
    fault("ib.devices", "closed to the user", ib(verbs_devices=False), gpus=1),
    fault("ib.counters", "an unsteady link", ib(link_errors={"link_downed": 12})),
    fault(
        "ib.peer-memory", "not loaded on one host", on("*", peer_memory=True), ib(peer_memory=False), gpus=1
    ),
    fault("ib.hca", "no such device", ib(device="mlx5_7"), gpus=1, env={"NCCL_IB_HCA": "mlx5_0:1"}),
    fault("ib.hca", "more than meant", ib(device="mlx5_01"), gpus=1, env={"NCCL_IB_HCA": "mlx5_0"}),
    fault("ib.gid", "no IPv4 on one host", roce(gids=()), gpus=1),
    fault("ib.gid", "another index on one host", roce(gids=(5,)), gpus=1, env={"NCCL_IB_GID_INDEX": "3"}),
    fault("ib.mtu", "1500", roce(netdev_mtu=1500)),
    fault(
        "gpu.fabric",
        "not joined",
        card("*", range(4), fabric="Completed"),
        card("node2", range(4), fabric="In Progress"),
        gpus=4,
    ),
    fault(
        "gpu.fabric",
        "not joined, and torch sees no card for it",
        card("*", range(4), fabric="Completed"),
        card("node2", range(4), fabric="In Progress"),
        on("node2", torch={"cuda_available": False, "device_count": 0}),
        gpus=4,
    ),
    fault(
        "gpu.power",
        "a limit left over",
        card("*", range(4), power_limit=700.0),
        card("node2", (2,), power_limit=350.0),
        gpus=4,
    ),
    fault(
        "gpu.xid",
        "an NVSwitch's",
        on(
            "node2",
            kernel_log=KernelLog(
                switch_faults=(Xid(code=20034, device="0000:c1:00", age=60.0, text="Fatal, Link 28"),)
            ),
        ),
        gpus=4,
    ),
    fault("net.errors", "on one host", link("*", errors=3), link("node2", errors=90_000)),
    fault("net.conntrack", "nearly full", on("node2", connections=(61_000, 65_536))),
]


HELD_ELSEWHERE = {
    **dict.fromkeys(
        (f"baseline.{subject}" for subject in ("machine", "software", "gpus", "network", "limits")),
        "test_checks_baseline",
    ),
    "hostfile.line": "test_checks_rules",
    "host.dup": "test_checks_rules",
    "host.shared-gpu": "test_checks_rules",
    "ssh.fanout": "test_checks_rules",
    "env.activate": "test_node_activation",
    "name.master-local": "test_checks_rules",
    "net.choice": "test_checks_rules",
    "net.nccl-pick": "test_checks_nccl",
    "net.rtt": "test_checks_flows",
    "net.tcp-slow": "test_checks_flows",
    "net.loss": "test_checks_flows",
    "net.rp_filter": "test_checks_rules",
    "net.backconnect": "test_checks_reach",
    "net.pmtu": "test_checks_reach",
    "net.nat": "test_checks_reach",
    "net.egress": "test_checks_reach",
    "e2e.gloo": "test_checks_e2e",
    "e2e.tcp-bw": "test_checks_bandwidth",
    "e2e.nccl": "test_checks_gpus_at_work",
    "e2e.pairwise": "test_checks_gpus_at_work",
    "gpu.cuda-smoke": "test_checks_gpus_at_work",
    "gpu.gemm": "test_checks_gpus_at_work",
    "gpu.dcgm": "test_checks_gpus_at_work",
}
ONLY_NOTES = {
    "baseline.hosts",
    "gpu.acs",
    "env.path",
    "env.sudo",
    "sw.caches",
    "sw.toolchain",
    "name.loopback",
    "net.same-name",
    "ib.fw",
    "ib.software",
    "ib.verbs",
    "ib.bandwidth",
    "ssh.peer",
    "name.rdzv-host",
}

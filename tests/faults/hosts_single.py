"""One fault on each of many real hosts: doctor names each on its host alone."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.faults.clusters import HostRow, fault
from tests.faults.host_changes import (
    Change,
    another_host_key,
    bashrc,
    cards_on_the_bus,
    clock,
    command,
    crashed,
    edited,
    file,
    firewall,
    flapping,
    frozen,
    login_shell,
    memory_disk,
    mtu,
    no_sshd,
    proc_meminfo,
    remounted,
    script,
    speaks,
    sshd_says,
    tool,
)
from tests.faults.nvidia import fake_smi

TORCH = Path(torch.__file__).with_name("version.py")
SITE = TORCH.parents[1]
OOM = "[99999999.500000] Out of memory: Killed process 991 (python3) total-vm:65G"
SLOW_SMI = f"sleep 9\n{sys.executable} - \"$@\" <<'END'\n{fake_smi('slow', 2)}\nEND"
OTHER_TORCH = edited(str(TORCH), lambda text: text.replace(torch.__version__.partition("+")[0], "2.1.0"))
OTHER_BUILD = edited(
    str(TORCH), lambda text: text.replace(str(torch.version.git_version), "0123456789abcdef")
)


def other_version(package: str, version: str) -> tuple[Change, ...]:
    """The package's metadata as those of another version, on this host alone."""
    (real,) = SITE.glob(f"{package.replace('-', '_')}-*-info")  # dist-info, or setup.py's egg-info
    return (
        file(f"{SITE}/{package}-{version}.dist-info/METADATA", f"Name: {package}\nVersion: {version}\n"),
        script(f"mountpoint -q {SITE} && rm -r {real}"),
    )


LOGIN: list[HostRow] = [
    fault("ssh.reach", "sshd is not running", no_sshd),
    fault("ssh.reach", "power off", crashed),
    fault("ssh.reach", "port 22 rejected by a firewall", firewall("in", "reset", (22, 22))),
    fault("ssh.reach", "port 22 dropped by a firewall", firewall("in", "drop", (22, 22))),
    fault("ssh.reach", "all its processes stand still", frozen),
    fault("ssh.reach", "a mail server at port 22", speaks("220 mail ESMTP")),
    fault("ssh.hostkey", "installed anew, with another host key", another_host_key),
    fault("ssh.auth", "the user's key is gone", sshd_says("AuthorizedKeysFile /nowhere")),
    fault("ssh.auth", "the user may not log in", sshd_says("AllowUsers somebody")),
    fault("env.shell", "exit in bashrc", bashrc("exit 0")),
    fault("env.shell", "bashrc replaces the shell", bashrc("exec /bin/true")),
    fault("env.shell", "the account's shell is nologin", login_shell("/usr/sbin/nologin")),
    fault("ssh.auth", "the account's shell is gone", login_shell("/opt/zsh/bin/zsh")),
    fault("env.noise", "a banner from bashrc", bashrc("echo Welcome to the lab; sleep 1")),
    fault("env.noise", "a module that tells what it loads", bashrc("echo 'Loading cuda/12.4'")),
    fault("env.stderr", "bashrc sources what is gone", bashrc(". /opt/site/setup.sh")),
    fault("env.stderr", "LD_PRELOAD of what is gone", bashrc("export LD_PRELOAD=/opt/x/libx.so")),
    fault("env.noninteractive", "PYTHONHOME of another python", bashrc("export PYTHONHOME=/opt/python2")),
    fault("env.stderr", "bashrc calls what is not installed", bashrc("module load cuda")),
    fault("env.login-time", "bashrc waits 8 s", bashrc("sleep 8")),
    fault("name.own", "own name not in hosts", file("/etc/hosts", "127.0.0.1 localhost\n")),
    fault(
        "name.family",
        "own name is IPv6 only",
        edited("/etc/hosts", lambda _: "127.0.0.1 localhost\n2001:db8::7 own-name-is-ipv6-only\n"),
    ),
]
SYSTEM: list[HostRow] = [
    fault("time.skew", "a clock 40 s behind", clock(-40)),
    fault("time.skew", "a clock an hour ahead", clock(3600)),
    fault("os.noexec", "tmp is noexec", remounted("/tmp", "noexec")),
    fault("os.noexec", "home is noexec", remounted("$HOME", "noexec")),
    fault("os.write", "home is read-only", remounted("$HOME", "ro")),
    fault("os.write", "tmp is read-only", remounted("/tmp", "ro")),
    fault("os.write", "TMPDIR is not there", bashrc("export TMPDIR=/scratch/nobody")),
    fault(
        "os.disk",
        "tmp is full",
        memory_disk("/tmp", "size=64m,mode=1777"),
        command("sh", "-c", "head -c 60m /dev/zero > /tmp/core"),
    ),
    fault(
        "os.disk",
        "tmp has no inodes left",
        memory_disk("/tmp", "size=64m,nr_inodes=64,mode=1777"),
        command("sh", "-c", "for i in $(seq 62); do : > /tmp/$i; done"),
    ),
    fault("os.shm", "shared memory of 16 MiB", memory_disk("/dev/shm", "size=16m,mode=1777")),
    fault(
        "os.shm-stale",
        "segments left over",
        command("sh", "-c", "echo 1 > /dev/shm/nccl-AbC123; echo 1 > /dev/shm/torch_99_1"),
    ),
    fault("os.nofile", "256 open files", bashrc("ulimit -n 256")),
    fault("os.fsize", "files of 1 GiB at most", bashrc("ulimit -f 1048576")),
    fault("os.cpu-time", "an hour of CPU time", bashrc("ulimit -t 3600")),
    fault("os.address-space", "20 GB of address space", bashrc("ulimit -v 20000000")),
    fault(
        "os.null",
        "a plain file for the null device",
        script("echo thrown away > /run/null; chmod 644 /run/null; mount --bind /run/null /dev/null"),
    ),
    fault("os.nproc", "a control group of 9 threads", file("/sys/fs/cgroup/pids.max", "9\n")),
    fault("os.memory", "half of the memory", proc_meminfo(0.5)),
    fault("os.load", "somebody computes there", file("/proc/loadavg", "900.00 900.00 900.00 9/999 4711\n")),
    fault("os.oom", "the kernel has killed for memory", tool("dmesg", f"echo '{OOM}'")),
    fault(
        "os.reboot",
        "an upgrade wants a reboot",
        file("/run/reboot-required", "*** System restart required ***\n"),
    ),
]
SOFTWARE: list[HostRow] = [
    fault("sw.torch", "another torch", OTHER_TORCH),
    fault("sw.torch-build", "another build of the same torch", OTHER_BUILD),
    fault("sw.deepspeed", "another deepspeed", *other_version("deepspeed", "0.14.0")),
    fault("sw.transformers", "another transformers", *other_version("transformers", "4.30.0")),
    fault("sw.numpy", "another numpy", *other_version("numpy", "1.21.0")),
    fault(
        "sw.accelerate-config",
        "a file of accelerate's",
        file(
            "~/.cache/huggingface/accelerate/default_config.yaml",
            "machine_rank: 1\nmixed_precision: fp16\nnum_machines: 4\n",
        ),
    ),
    fault("sw.nccl-env", "OMP_NUM_THREADS in bashrc", bashrc("export OMP_NUM_THREADS=999")),
    fault("sw.nccl-debug", "a level of Python's in bashrc", bashrc("export NCCL_DEBUG=ERROR")),
    fault("sw.nccl-env", "NCCL_DEBUG in nccl.conf", file("~/.nccl.conf", "NCCL_DEBUG=TRACE\n")),
    fault(
        "sw.nccl-env",
        "NCCL_P2P_DISABLE in a file that NCCL_CONF_FILE names",
        file("~/own.conf", "NCCL_P2P_DISABLE=1\n"),
        bashrc("export NCCL_CONF_FILE=~/own.conf"),
    ),
    fault(
        "sw.pythonpath",
        "a json py of the user s",
        file("~/lib/json.py", "DATA = 1\n"),
        bashrc("export PYTHONPATH=~/lib"),
    ),
    fault("sw.ds-env", "a name in deepspeed_env", file("~/.deepspeed_env", "NCCL_SOCKET_IFNAME=eth0\n")),
    fault("sw.proxy", "a proxy in bashrc", bashrc("export https_proxy=http://alice:secret@proxy:3128")),
    fault(
        "sw.arch",
        "a 32-bit personality",
        file("/opt/old/shell", '#!/bin/sh\nexec setarch i686 /bin/bash "$@"\n', 0o755),
        login_shell("/opt/old/shell"),
    ),
    fault(
        "sw.kernel",
        "an ancient kernel by its name",
        file("/opt/old/shell", '#!/bin/sh\nexec setarch --uname-2.6 /bin/bash "$@"\n', 0o755),
        login_shell("/opt/old/shell"),
    ),
]
NETWORK: list[HostRow] = [
    fault("net.interfaces", "lo is down", command("ip", "link", "set", "lo", "down")),
    fault("net.mtu", "MTU of 1400", mtu(1400)),
    fault("net.speed", "a link at 100 Mbit/s", file("/sys/class/net/eth0/speed", "100\n")),
    fault("net.flaps", "a link that flaps", flapping(12)),
    fault("net.errors", "errors on the card", file("/sys/class/net/eth0/statistics/rx_errors", "90000\n")),
    fault(
        "net.portrange",
        "few local ports",
        command("sysctl", "-w", "net.ipv4.ip_local_port_range=50000 50100"),
    ),
    fault("net.gloo-name", "NCCL's syntax for Gloo", bashrc("export GLOO_SOCKET_IFNAME=^lo")),
    fault("net.gloo-name", "Gloo told of a missing card", bashrc("export GLOO_SOCKET_IFNAME=eno1")),
    fault("net.ifname-user", "NCCL told of a missing card", bashrc("export NCCL_SOCKET_IFNAME=ib0")),
    fault("net.ifname-user", "two words for NCCL", bashrc("export NCCL_SOCKET_IFNAME='=eth0 '")),
]
IMPORTS: list[HostRow] = [
    fault(
        "sw.import-time",
        "torch waits for its files",
        edited(str(TORCH), lambda text: f"import time; time.sleep(12)\n{text}"),
    ),
    fault(
        "sw.torch-import",
        "torch misses a library",
        edited(
            str(TORCH),
            lambda text: f"{text}\nraise ImportError('libcudart.so.12: cannot open shared object file')\n",
        ),
    ),
]
CARDS: list[HostRow] = [
    fault("gpu.smi-hang", "nvidia-smi takes 9 s", tool("nvidia-smi", SLOW_SMI), gpus=2),
    fault(
        "gpu.count host.slots",
        "a card that the bus has and the driver has not",
        cards_on_the_bus(3),
        gpus=2,
        slots=3,
    ),
    fault("gpu.smi", "a card requires a reset", gpus=2, card={"memory.used": "[GPU requires reset]"}),
    fault("gpu.smi", "an unknown error of a card", gpus=2, card={"utilization.gpu": "[Unknown Error]"}),
    fault(
        "gpu.throttle", "a hot card", gpus=2, card={"clocks_throttle_reasons.active": "0x0000000000000040"}
    ),
    fault("gpu.pcie", "a card on 8 lanes", gpus=2, card={"pcie.link.width.current": "8"}),
    fault("gpu.compute-mode", "an exclusive card", gpus=2, card={"compute_mode": "Exclusive_Process"}),
    fault("gpu.persistence", "no persistence", gpus=2, card={"persistence_mode": "Disabled"}),
    fault("gpu.remap", "a row waits to be replaced", gpus=2, card={"remapped_rows.pending": "Yes"}),
    fault("gpu.ecc", "ECC errors", gpus=2, card={"ecc.errors.uncorrected.volatile.total": "3"}),
    fault("gpu.mig", "MIG is on", gpus=2, card={"mig.mode.current": "Enabled"}),
    fault("gpu.model", "another model", gpus=2, card={"name": "NVIDIA L4", "memory.total": "23034"}),
    fault("gpu.busy", "memory in use", gpus=2, card={"memory.used": "40000"}),
    fault("gpu.vbios", "an older VBIOS", gpus=2, card={"vbios_version": "92.00.25.00.08"}),
    fault("gpu.clocks", "a clock left low", gpus=2, card={"clocks.applications.graphics": "210"}),
    fault("gpu.ecc-mode", "ECC switched off", gpus=2, card={"ecc.mode.current": "Disabled"}),
    fault("gpu.power", "a power limit left over", gpus=2, card={"power.limit": "150.00"}),
    fault(
        "gpu.xid",
        "a card fell off the bus lately",
        tool(
            "dmesg",
            "read now rest < /proc/uptime; "
            'echo "[${now}0000] NVRM: Xid (PCI:0000:02:00): 79, pid=1, GPU has fallen off the bus."',
        ),
        gpus=2,
    ),
    fault(
        "gpu.smi",
        "nvidia-smi ends with 15",
        tool(
            "nvidia-smi",
            "echo 'Unable to determine the device handle for GPU0000:02:00.0: GPU is lost.'; exit 15",
        ),
        gpus=2,
    ),
    fault(
        "gpu.smi",
        "no driver loaded",
        tool(
            "nvidia-smi",
            'echo "NVIDIA-SMI has failed because it couldn\'t communicate with the NVIDIA driver."; exit 9',
        ),
        gpus=2,
    ),
    fault(
        "gpu.lib-mismatch",
        "library and driver differ",
        tool(
            "nvidia-smi",
            "echo 'Failed to initialize NVML: Driver/library version mismatch'; "
            "echo 'NVML library version: 550.127'; exit 18",
        ),
        gpus=2,
    ),
    fault("gpu.smi-hang", "nvidia-smi hangs", tool("nvidia-smi", "sleep 600"), gpus=2),
    fault("host.slots", "more slots than cards", gpus=2, slots=4),
]

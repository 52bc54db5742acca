"""Two faults and more at once: on one real host, and on several hosts of one cluster."""

from __future__ import annotations

from tests.faults.clusters import ClusterRow, HostRow, fault
from tests.faults.host_changes import (
    CHOSEN_BY_THE_KERNEL,
    another_host_key,
    bashrc,
    bridge,
    crashed,
    file,
    firewall,
    login_shell,
    memory_disk,
    mtu,
    no_sshd,
    proc_meminfo,
    remounted,
    script,
    tool,
)
from tests.faults.hosts_network import CLOSED, m, of
from tests.faults.hosts_single import OOM, OTHER_BUILD, OTHER_TORCH, other_version

NO_NAME = file("/etc/hosts", "127.0.0.1 localhost\n")
SMALL_SHM = memory_disk("/dev/shm", "size=16m,mode=1777")
NCCLS_SYNTAX = bashrc("export GLOO_SOCKET_IFNAME=^lo")

ON_ONE_HOST: list[HostRow] = [
    fault("env.noise os.shm", "a banner and little shared memory", bashrc("echo hello"), SMALL_SHM),
    fault("sw.torch name.own", "another torch and no name", OTHER_TORCH, NO_NAME),
    fault(
        "os.write os.noexec",
        "home read-only, tmp noexec",
        remounted("$HOME", "ro"),
        remounted("/tmp", "noexec"),
    ),
    fault(
        "net.mtu net.portrange",
        "MTU and local ports",
        mtu(1400),
        file("/proc/sys/net/ipv4/ip_local_port_range", "50000\t50100\n"),
    ),
    fault(
        "sw.numpy sw.nccl-env",
        "another numpy, threads set",
        *other_version("numpy", "1.21.0"),
        bashrc("export OMP_NUM_THREADS=999"),
    ),
    fault(
        "os.memory os.load",
        "half of the memory, and loaded",
        proc_meminfo(0.5),
        file("/proc/loadavg", "900.00 900.00 900.00 9/999 4711\n"),
    ),
    fault(
        "env.stderr sw.proxy os.nofile",
        "three lines in bashrc",
        bashrc(". /opt/gone.sh\nexport https_proxy=http://p:1\nulimit -n 256"),
    ),
    fault(
        "os.oom os.reboot",
        "killed for memory, and upgraded",
        tool("dmesg", f"echo '{OOM}'"),
        file("/run/reboot-required", "*** System restart required ***\n"),
    ),
    fault("net.gloo-name net.mtu", "a wrong name for Gloo, and MTU", NCCLS_SYNTAX, mtu(1400)),
    fault(
        "net.ifname-user net.speed",
        "a wrong name for NCCL, and a slow link",
        bashrc("export NCCL_SOCKET_IFNAME=ib0"),
        file("/sys/class/net/eth0/speed", "100\n"),
    ),
    fault("sw.torch-build env.login-time", "another build, and a slow shell", OTHER_BUILD, bashrc("sleep 8")),
    fault(
        "sw.accelerate-config sw.ds-env",
        "two files left at home",
        file("~/.cache/huggingface/accelerate/default_config.yaml", "num_machines: 4\n"),
        file("~/.deepspeed_env", "NCCL_SOCKET_IFNAME=eth0\n"),
    ),
    fault("ssh.reach", "no sshd, beside all else", no_sshd, SMALL_SHM, NO_NAME, mtu(1400)),
    fault("ssh.hostkey", "another host key, beside a banner", another_host_key, bashrc("echo hello")),
    fault("ssh.auth", "a shell that is gone, beside a small disk", login_shell("/opt/zsh"), SMALL_SHM),
    fault(
        "os.disk os.shm-stale",
        "a full disk and segments left over",
        memory_disk("/tmp", "size=64m,mode=1777"),
        script("head -c 60m /dev/zero > /tmp/core; echo 1 > /dev/shm/nccl-AbC123"),
    ),
]

SLOW_RESOLVER = (
    file("/etc/resolv.conf", "nameserver 192.0.2.53\noptions timeout:30 attempts:3\n"),
    file("/etc/nsswitch.conf", "hosts: dns\npasswd: files\n"),
    firewall("out", "drop", None, "192.0.2.53"),
)

ON_SEVERAL: list[ClusterRow] = [
    of(
        *"abcd",
        name="a firewall, another torch, a banner",
        expected="net.backconnect b; sw.torch c; env.noise d",
        b=CLOSED,
        c=m(OTHER_TORCH),
        d=m(bashrc("echo hello")),
    ),
    of(
        *"abcd",
        name="a firewall, a version drift and a slow resolver",
        expected="net.backconnect b; sw.deepspeed c; name.own d",
        b=CLOSED,
        c=m(*other_version("deepspeed", "0.14.0")),
        d=m(*SLOW_RESOLVER),
    ),
    of(
        *"abcd",
        name="a host is down while another has a firewall",
        expected="ssh.reach b; net.backconnect c",
        b=m(crashed),
        c=CLOSED,
    ),
    of(
        *"abcd",
        name="rank 0 is down while another has a firewall",
        expected="ssh.reach a; net.backconnect c",
        a=m(crashed),
        c=CLOSED,
    ),
    of(
        *"abcde",
        name="one lets nobody in, another nothing out",
        expected="net.backconnect b d",
        b=CLOSED,
        d=m(firewall("out", "drop", CHOSEN_BY_THE_KERNEL)),
    ),
    of(
        *"abcd",
        name="two faults on a host with a firewall",
        expected="net.backconnect b; os.shm b; net.mtu b",
        b=m(firewall("in", "drop", CHOSEN_BY_THE_KERNEL), SMALL_SHM, mtu(1400)),
    ),
    of(
        *"abc",
        name="a firewall beside docker on all hosts",
        expected="net.backconnect c",
        a=m(bridge()),
        b=m(bridge()),
        c=m(bridge(), firewall("in", "drop", CHOSEN_BY_THE_KERNEL)),
    ),
    of(
        *"abcd",
        name="the same drift on half of the hosts",
        options=("--quick",),
        expected="sw.torch a b c d",
        c=m(OTHER_TORCH),
        d=m(OTHER_TORCH),
    ),
    of(
        *"abcd",
        name="the same full disk on half of the hosts",
        options=("--quick",),
        expected="os.shm c d",
        c=m(SMALL_SHM),
        d=m(SMALL_SHM),
    ),
    of(
        *"abcd",
        name="the majority has little shared memory",
        options=("--quick",),
        expected="os.shm b c d",
        b=m(SMALL_SHM),
        c=m(SMALL_SHM),
        d=m(SMALL_SHM),
    ),
    of(
        *"abc",
        name="no host knows its own name",
        options=("--quick",),
        expected="name.own a b c",
        a=m(NO_NAME),
        b=m(NO_NAME),
        c=m(NO_NAME),
    ),
    of(
        *"abc",
        name="all hosts but one are down",
        options=("--quick",),
        expected="ssh.reach b c",
        b=m(crashed),
        c=m(no_sshd),
    ),
    of(
        *"abcd",
        name="a firewall at one host, half of the memory at another",
        expected="net.backconnect d; os.memory b",
        b=m(proc_meminfo(0.5)),
        d=CLOSED,
    ),
]

"""Real hosts and clusters that look strange and are healthy: doctor says nothing above a note."""

from __future__ import annotations

from clusterctl.sandbox import Nic
from tests.faults.clusters import ClusterRow, HostRow, Machine, odd
from tests.faults.host_changes import (
    bashrc,
    bridge,
    edited,
    file,
    iptables,
    login_shell,
    memory_disk,
    script,
    sshd_says,
    tool,
)
from tests.faults.hosts_network import behind_a

MOTD = "\n".join(f"* line {number} of a long message of the day" for number in range(400))
UBUNTU = """case $- in *i*) ;; *) return;; esac
echo this is for people only"""
CONDA = """__conda_setup="$('/opt/conda/bin/conda' 'shell.bash' 'hook' 2> /dev/null)"
if [ $? -eq 0 ]; then eval "$__conda_setup"; fi
unset __conda_setup"""
WRAPPED = '#!/bin/sh\nexec /bin/bash --norc "$@"\n'
XID_31 = """read now rest < /proc/uptime
echo "[${now}0000] NVRM: Xid (PCI:0000:02:00): 31, pid=1, MMU Fault"
"""
VPN = "ip tuntap add tailscale0 mode tun\nip addr add 100.64.0.9/32 dev tailscale0\nip link set tailscale0 up"
BROWSED = "/tmp/.X0-lock /tmp/ray /tmp/tmux-0"

SESSIONS: list[HostRow] = [
    odd("bashrc as Ubuntu writes it", bashrc(UBUNTU)),
    odd("bashrc of conda", bashrc(CONDA)),
    odd("bashrc that leaves something running", bashrc("sleep 300 &")),
    odd("bashrc that leaves a quiet daemon", bashrc("(sleep 300 > /dev/null 2>&1 &)")),
    odd("bashrc with set -u", bashrc("set -u")),
    odd("bashrc with set -e", bashrc("set -e")),
    odd("bashrc that goes elsewhere", bashrc("cd /var/tmp")),
    odd("bashrc that turns stderr off", bashrc("exec 2> /dev/null")),
    odd("bashrc whose last line fails", bashrc("[ -f /nowhere ] && . /nowhere")),
    odd("bashrc with aliases", bashrc("alias python=ipython ls='ls --color' cat=bat sh=zsh exec=echo")),
    odd("bashrc with functions", bashrc('python3() { echo no; }; cd() { builtin cd "$@" && ls; }')),
    odd("umask 077", bashrc("umask 077")),
    odd("a strange IFS", bashrc("export IFS=:")),
    odd("POSIXLY_CORRECT", bashrc("export POSIXLY_CORRECT=1 GREP_OPTIONS=--color=always")),
    odd("a French locale that is not installed", bashrc("export LC_ALL=fr_FR.UTF-8 LANG=fr_FR.UTF-8")),
    odd("PYTHONWARNINGS is error", bashrc("export PYTHONWARNINGS=error PYTHONDONTWRITEBYTECODE=1")),
    odd("PYTHONUTF8 off", bashrc("export PYTHONUTF8=0 PYTHONIOENCODING=latin-1 LC_ALL=C")),
    odd("a short PATH", bashrc("export PATH=/usr/bin:/bin")),
    odd("a PATH with a folder that is gone", bashrc("export PATH=/opt/gone/bin::$PATH")),
    odd("TMOUT", bashrc("export TMOUT=5")),
    odd("BASH_ENV", file("~/.env", "export FROM_ENV=1\n"), bashrc("export BASH_ENV=~/.env")),
    odd(
        "modules at home",
        *(file(f"~/{name}.py", "raise SystemExit(3)\n") for name in ("json", "torch", "re", "os")),
    ),
    odd("a login shell that is dash", login_shell("/bin/dash")),
    odd("a login shell that is sh", login_shell("/bin/sh")),
    odd(
        "a login shell that is a script",
        file("/opt/lab/shell", WRAPPED, 0o755),
        login_shell("/opt/lab/shell"),
    ),
    odd(
        "a login shell that takes a second",
        file("/opt/slow/shell", '#!/bin/sh\nsleep 1\nexec /bin/bash "$@"\n', 0o755),
        login_shell("/opt/slow/shell"),
    ),
    odd("a long message of the day", file("/etc/motd", MOTD), sshd_says("PrintMotd yes")),
    odd("a banner of sshd", file("/etc/issue.net", MOTD), sshd_says("Banner /etc/issue.net")),
    odd("another user", user="alice"),
    odd("another port", port=2222),
    odd("sshd without pty", sshd_says("PermitTTY no", "X11Forwarding no", "AllowTcpForwarding no")),
    odd("sshd with one session at a time", sshd_says("MaxSessions 1", "MaxStartups 2:30:10")),
    odd("a wtmp that says when one was here", bashrc("tty > /dev/null; mesg n 2> /dev/null")),
]
MACHINES: list[HostRow] = [
    odd("another name for the card", nics=(Nic("enp5s0"),)),
    odd("a card with a long name", nics=(Nic("enx00e04c680123"),)),
    odd("docker on one host", bridge("docker0", "172.17.0.1/16")),
    odd("docker without containers", bridge("docker0", "172.17.0.1/16", carrier=False)),
    odd(
        "networks of docker compose",
        bridge("br-1f2e3d4c5b6a", "172.18.0.1/16"),
        bridge("br-a1b2c3d4e5f6", "172.19.0.1/16"),
    ),
    odd("libvirt", bridge("virbr0", "192.168.122.1/24", carrier=False)),
    odd("kubernetes", bridge("cni0", "10.244.1.1/24"), bridge("flannel.1", "10.244.1.0/32")),
    odd("a card without an address", nics=(Nic("eth0"), Nic("eth1", "spare", ""))),
    odd("an overlay network", script(VPN)),
    odd("a card with IPv6 only", script("ip addr add 2001:db8:1::5/64 dev eth0 nodad")),
    odd("a second address on the card", script("ip addr add 10.123.4.5/24 dev eth0")),
    odd("a host address on lo", script("ip addr add 192.0.2.77/32 dev lo")),
    odd(
        "own name is 127.0.1.1",
        edited("/etc/hosts", lambda _: "127.0.0.1 localhost\n127.0.1.1 own-name-is-127-0-1-1\n"),
    ),
    odd("a small but empty tmp", memory_disk("/tmp", "size=256m,mode=1777")),
    odd("a tmp with much in it", script(f"mkdir -p {BROWSED}; seq 20000 > /tmp/ray/log")),
    odd("a read-only root of its own", script("mount --rbind /opt /opt; mount -o remount,bind,ro /opt")),
    odd(
        "a disk that is full but for nobody",
        script("mkdir /tmp/iso; mount -t tmpfs -o size=1m iso /tmp/iso; head -c 1m /dev/zero > /tmp/iso/x"),
    ),
    odd("proc without other users' processes", script("mount -o remount,hidepid=2 /proc || true")),
    odd("nvidia-smi in a CPU image", tool("nvidia-smi", "echo NVIDIA-SMI has failed; exit 9")),
    odd("nvidia-smi that finds no device", tool("nvidia-smi", "echo No devices were found; exit 6")),
    odd(
        "a kernel log that nobody may read",
        tool("dmesg", "echo 'dmesg: read kernel buffer failed: Operation not permitted' >&2; exit 1"),
    ),
    odd(
        "a kernel log full of other things",
        tool("dmesg", 'for i in $(seq 9000); do echo "[$i.000000] usb 1-1: new device"; done'),
    ),
    odd("more open files", bashrc("ulimit -n 524288 2> /dev/null")),
    odd("no core files", bashrc("ulimit -c 0")),
    odd("an idle control group", file("/sys/fs/cgroup/pids.max", "max\n")),
    odd(
        "another distribution",
        file("/etc/os-release", 'PRETTY_NAME="Rocky Linux 9.4 (Blue Onyx)"\nID=rocky\n'),
    ),
    odd("no machine id", file("/etc/machine-id", "")),
    odd(
        "a hosts file of thousands",
        edited(
            "/etc/hosts",
            lambda _: (
                "127.0.0.1 localhost\n10.9.8.7 a-hosts-file-of-thousands\n"
                + "".join(f"10.200.{n // 250}.{n % 250} n{n}\n" for n in range(4000))
            ),
        ),
    ),
    odd(
        "two python3 on PATH",
        file("/opt/other/bin/python3", '#!/bin/sh\nexec /usr/bin/python3 "$@"\n', 0o755),
        bashrc("export PATH=/opt/other/bin:$PATH"),
    ),
]
CARDS: list[HostRow] = [
    odd("four cards, two of them used", gpus=4, slots=2),
    odd("unequal counts of cards", gpus=3),
    odd("an idle card says so", gpus=2, card={"clocks_throttle_reasons.active": "0x0000000000000001"}),
    odd("a card with a power cap", gpus=2, card={"clocks_throttle_reasons.active": "0x0000000000000004"}),
    odd(
        "a card without ECC",
        gpus=2,
        card={
            "ecc.errors.uncorrected.volatile.total": "[N/A]",
            "remapped_rows.pending": "[N/A]",
            "remapped_rows.failure": "[N/A]",
        },
    ),
    odd("a desktop that draws on a card", gpus=2, card={"memory.used": "350", "utilization.gpu": "4"}),
    odd(
        "a program's own Xid",
        tool(
            "dmesg",
            XID_31,
        ),
        gpus=2,
    ),
]


def names(count: int, machine: Machine) -> dict[str, Machine]:
    return {f"node{number}": machine for number in range(1, count + 1)}


CLUSTERS: list[ClusterRow] = [
    ClusterRow(
        name="docker, libvirt and kubernetes on all hosts",
        machines=names(
            3,
            Machine(
                changes=(
                    bridge(),
                    bridge("virbr0", "192.168.122.1/24", carrier=False),
                    bridge("br-0a1b2c3d4e5f", "172.18.0.1/16"),
                )
            ),
        ),
    ),
    ClusterRow(
        name="each host names its card otherwise",
        machines={
            "a": Machine(nics=(Nic("eno1"),)),
            "b": Machine(nics=(Nic("enp5s0"),)),
            "c": Machine(nics=(Nic("ens3f0np0"),)),
        },
    ),
    ClusterRow(
        name="two networks that all have", machines=names(3, Machine(nics=(Nic("eth0"), Nic("eth1", "fast"))))
    ),
    ClusterRow(
        name="a second network under changed names",
        machines={
            "a": Machine(nics=(Nic("eth0"), Nic("eth1", "fast"))),
            "b": Machine(nics=(Nic("eth1"), Nic("eth0", "fast"))),
            "c": Machine(nics=(Nic("x0"), Nic("y0", "fast"))),
        },
    ),
    ClusterRow(
        name="a network of which one host only is",
        machines={"a": Machine(nics=(Nic("eth0"), Nic("eth1", "office"))), "b": Machine(), "c": Machine()},
    ),
    ClusterRow(
        name="one proxy for all",
        machines=names(
            3, Machine(changes=(bashrc("export https_proxy=http://proxy:3128 no_proxy=localhost"),))
        ),
    ),
    ClusterRow(
        name="one accelerate file for all",
        machines=names(
            3,
            Machine(
                changes=(file("~/.cache/huggingface/accelerate/default_config.yaml", "num_machines: 4\n"),)
            ),
        ),
    ),
    ClusterRow(name="jumbo frames everywhere", machines=names(3, Machine(nics=(Nic("eth0", mtu=9000),)))),
    ClusterRow(
        name="a firewall that admits the cluster's own network",
        machines=names(
            3,
            Machine(
                changes=(
                    iptables(
                        "-A INPUT -i lo -j ACCEPT",
                        "-A INPUT -s NET -j ACCEPT",
                        "-A INPUT -p tcp --dport 22 -j ACCEPT",
                        "-A INPUT -j DROP",
                    ),
                )
            ),
        ),
    ),
    ClusterRow(
        name="users of other names on other ports",
        machines={"a": Machine(user="alice", port=2201), "b": Machine(user="bob", port=2202), "c": Machine()},
    ),
    ClusterRow(name="one host", machines=names(1, Machine())),
    ClusterRow(
        name="two hosts, one behind a slow shell",
        machines={"a": Machine(), "b": Machine(changes=(bashrc("sleep 3"),))},
    ),
    ClusterRow(
        name="a cable of 20 Mbit/s",
        machines=names(
            3,
            Machine(
                changes=(script("tc qdisc replace dev eth0 root tbf rate 20mbit burst 256kb latency 50ms"),)
            ),
        ),
    ),
    ClusterRow(
        name="a little loss",
        machines=names(
            3,
            Machine(
                changes=(iptables("-A INPUT ! -i lo -m statistic --mode random --probability 0.01 -j DROP"),)
            ),
        ),
    ),
    ClusterRow(
        name="hosts given by address",
        machines=names(3, Machine()),
        hostfile=lambda box: "".join(f"{host.address()} slots=1\n" for host in box.hosts),
    ),
    ClusterRow(
        name="hosts behind another of them", machines=dict.fromkeys("abc", Machine()), ssh_config=behind_a
    ),
    ClusterRow(
        name="a hostfile as DeepSpeed's users write it",
        machines=names(3, Machine()),
        options=("--quick",),
        hostfile=lambda box: "# our lab\n\nnode1   slots=1\n node2 slots=1 # the old one\nnode3\tslots=1\n",
    ),
    ClusterRow(name="24 hosts", machines=names(24, Machine()), options=("--quick",)),
]

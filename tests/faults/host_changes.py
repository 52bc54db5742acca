"""What can be altered on a real host: the words in which ``hosts_*.py`` are written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from clusterctl.sandbox.faults import BlockKind, Direction
from clusterctl.sandbox.host import VirtualHost
from clusterctl.sandbox.keys import make_key

Change = Callable[[VirtualHost], None]

HIGH = (1024, 65535)
CHOSEN_BY_THE_KERNEL = (32768, 60999)
_BIND_AGAIN = """
for file in "$1"/*; do
  at=/etc/$(basename "$file")
  [ "$at" = "$2" ] || [ ! -f "$at" ] || mount --bind "$file" "$at"
done
"""


def bashrc(text: str) -> Change:
    """More lines in the user's start-up file, which bash reads in every SSH session."""

    def alter(host: VirtualHost) -> None:
        path = host.home / ".bashrc"
        before = path.read_text() if path.exists() else ""
        host.shell_profile(f"{before}{text}\n")

    return alter


def file(path: str, text: str, mode: int = 0o644) -> Change:
    """A file in this host's view of the machine; ``~/`` is its user's home."""

    def alter(host: VirtualHost) -> None:
        if path.startswith("~/"):
            own = host.home / path[2:]
            own.parent.mkdir(parents=True, exist_ok=True)
            own.write_text(text)
            own.chmod(mode)
        else:
            host.install(path, text, mode)
            if path.startswith("/etc/"):
                # A new file there lays the machine's /etc over what the host has of its own.
                own = host.directory / "etc"
                host.admin(["/bin/sh", "-ec", _BIND_AGAIN, "bind", str(own), path])

    return alter


def edited(path: str, edit: Callable[[str], str]) -> Change:
    """A file of the machine as this host alone sees it, altered."""
    return lambda host: host.install(path, edit(Path(path).read_text(encoding="utf-8")))


def tree(root: str, files: dict[str, str]) -> Change:
    """Several small files below one folder, as /sys has them."""

    def alter(host: VirtualHost) -> None:
        for name, text in files.items():
            host.install(f"{root}/{name}", f"{text}\n")

    return alter


def cards_on_the_bus(count: int) -> Change:
    """As many of NVIDIA's devices as nvidia-smi is to show, and nothing else."""
    bus = "/sys/bus/pci/devices"
    lines = [f"mount -t tmpfs bus {bus}"]
    for number in range(count):
        device = f"{bus}/0000:{number + 1:02x}:00.0"
        lines.append(f"mkdir {device}; echo 0x10de > {device}/vendor; echo 0x030200 > {device}/class")
    return script("\n".join(lines))


def tool(name: str, script: str) -> Change:
    return file(f"/usr/bin/{name}", f"#!/bin/sh\n{script}\n", 0o755)


def command(*argv: str) -> Change:
    """Run as root of this host."""
    return lambda host: (host.admin(argv), None)[1]


def script(text: str) -> Change:
    """Run by sh as root of this host; ``$HOME`` is that of its user."""
    return lambda host: (host.admin(["/bin/sh", "-ec", f"HOME={host.environment()['HOME']}\n{text}"]), None)[
        1
    ]


def memory_disk(path: str, options: str) -> Change:
    """A file system of its own at ``path``. What the sandbox has below /tmp, for its sshd, stays in sight."""

    def alter(host: VirtualHost) -> None:
        own = host.directory
        while own.parent != Path(path) and own != own.parent:
            own = own.parent
        mount = f"mount -t tmpfs -o {options} fault {path}"
        aside = f"mkdir /run/kept\nmount --rbind {own} /run/kept"
        kept = f"{aside}\n{mount}\nmkdir {own}\nmount --rbind /run/kept {own}"
        host.admin(["/bin/sh", "-ec", mount if own == own.parent else kept])

    return alter


def remounted(path: str, options: str) -> Change:
    return script(f"mount --rbind {path} {path}\nmount -o remount,bind,{options} {path}")


def firewall(
    direction: Direction, kind: BlockKind = "drop", ports: tuple[int, int] | None = HIGH, peer: str = ""
) -> Change:
    return lambda host: host.block(direction, kind, ports, peer or None)


def iptables(*rules: str) -> Change:
    """Rules as they are typed; ``NET`` is the network of eth0."""
    # The default flavour needs nf_tables, which some kernels lack.
    lines = ["I=iptables; $I -w -L > /dev/null 2>&1 || I=iptables-legacy"]
    lines += (
        ["N=$(ip -4 -o addr show eth0 | awk '{print $4}')"] if any("NET" in rule for rule in rules) else []
    )
    return script("\n".join([*lines, *(f"$I -w {rule.replace('NET', '$N')}" for rule in rules)]))


def mtu(value: int, nic: str = "eth0") -> Change:
    return lambda host: host.set_mtu(nic, value)


def switch_mtu(value: int, nic: str = "eth0") -> Change:
    """The switch lets no larger packet through; segments are cut by the card, as a real one does."""

    def alter(host: VirtualHost) -> None:
        host.set_switch_mtu(nic, value)

    return alter


def segments_cut(nic: str = "eth0") -> Change:
    """A virtual cable hands whole segments over; a real card cuts them before the switch sees them."""
    return command("ip", "link", "set", nic, "gso_max_segs", "1")


def flapping(times: int, nic: str = "eth0") -> Change:
    def alter(host: VirtualHost) -> None:
        for _ in range(times):
            host.set_link(nic, up=False)
            host.set_link(nic, up=True)

    return alter


def bridge(name: str = "docker0", address: str = "172.17.0.1/16", *, carrier: bool = True) -> Change:
    return lambda host: host.add_decoy_bridge(name, address, carrier=carrier)


def bandwidth(rate: str, nic: str = "eth0") -> Change:
    return lambda host: host.limit_bandwidth(nic, rate)


def login_shell(path: str) -> Change:
    """The shell of the account, as /etc/passwd has it."""

    def alter(host: VirtualHost) -> None:
        passwd = host.directory / "etc/passwd"
        first, _, rest = passwd.read_text().partition("\n")
        passwd.write_text(f"{first.rpartition(':')[0]}:{path}\n{rest}")

    return alter


def sshd_says(*lines: str) -> Change:
    """Settings of its sshd, which is started anew."""

    def alter(host: VirtualHost) -> None:
        config = host.directory / "sshd_config"
        config.write_text("\n".join(lines) + "\n" + config.read_text())
        host.stop_sshd()
        host.start_sshd()

    return alter


def speaks(line: str) -> Change:
    """Something else than sshd has port 22, and says this to whoever comes."""

    def alter(host: VirtualHost) -> None:
        host.stop_sshd()
        file("/opt/other/server.py", _SERVER.replace("LINE", line))(host)
        host.admin(["/bin/sh", "-ec", f"setsid {sys.executable} /opt/other/server.py {_IN_BACKGROUND}"])

    return alter


_IN_BACKGROUND = "> /dev/null 2>&1 < /dev/null & until grep -q :0016 /proc/net/tcp; do sleep 0.1; done"
_SERVER = """
import socket
listener = socket.create_server(("", 22))
kept = []
while True:
    kept.append(listener.accept()[0])
    kept[-1].sendall(b"LINE\\r\\n")
"""


def no_sshd(host: VirtualHost) -> None:
    host.stop_sshd()


def clock(seconds: int) -> Change:
    """The wall clock of all its programs is off by so much: the C library's answers are bent."""

    def alter(host: VirtualHost) -> None:
        source = host.directory / "clock.c"
        source.write_text(_CLOCK.replace("OFF", str(seconds)))
        library = host.directory / "clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
        file("/etc/ld.so.preload", f"{library}\n")(host)

    return alter


_CLOCK = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
  int done = syscall(SYS_clock_gettime, clock, now);
  if (clock == CLOCK_REALTIME) now->tv_sec += OFF;
  return done;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  int done = syscall(SYS_gettimeofday, now, zone);
  now->tv_sec += OFF;
  return done;
}
time_t time(time_t *kept) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (kept) *kept = now.tv_sec;
  return now.tv_sec;
}
"""


def frozen(host: VirtualHost) -> None:
    host.freeze()


def crashed(host: VirtualHost) -> None:
    host.crash()


def another_host_key(host: VirtualHost) -> None:
    """As after the machine was installed anew."""
    for old in host.directory.glob("host_key*"):
        old.unlink()
    make_key(host.directory / "host_key", "new")
    host.stop_sshd()
    host.start_sshd()


def proc_meminfo(factor: float) -> Change:
    """A machine with ``factor`` of this one's memory."""

    def smaller(text: str) -> str:
        rows = [line.partition(":")[::2] for line in text.splitlines()]
        return "".join(f"{name}: {int(int(rest.split()[0]) * factor)} kB\n" for name, rest in rows)

    return edited("/proc/meminfo", smaller)

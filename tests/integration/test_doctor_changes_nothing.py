"""doctor leaves a host as it was, whatever becomes of it: files, processes, sockets, firewall, settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from clusterctl.sandbox import HostSpec, Sandbox
from clusterctl.sandbox.host import VirtualHost
from tests.faults.real import clusterctl
from tests.integration.test_doctor_sandbox import ROOT

pytestmark = pytest.mark.sandbox

_STATE = r"""
import hashlib, json, os, subprocess, sys

ELSEWHERE = sys.argv.pop(1)

def files(top):
    found = {}
    for folder, inner, names in os.walk(top):
        # The sandbox's own files, which its hosts see too, are this machine's.
        inner[:] = [name for name in inner if os.path.join(folder, name) != ELSEWHERE]
        for path in [folder] + [os.path.join(folder, name) for name in names]:
            try:
                seen = os.lstat(path)
                content = ""
                if os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb") as stream:
                        content = hashlib.sha256(stream.read()).hexdigest()
            except OSError as error:
                found[path] = [str(error)]
                continue
            found[path] = [seen.st_size, seen.st_mtime_ns, oct(seen.st_mode), seen.st_uid, content]
    return found

def sysctls(top):
    found = {}
    for folder, _, names in os.walk(top):
        for name in names:
            # What the kernel counts, and what can only be written.
            if "conntrack_count" in name or name in ("flush", "stat_refresh"):
                continue
            try:
                with open(os.path.join(folder, name)) as stream:
                    found[os.path.join(folder, name)] = stream.read()
            except OSError:
                pass
    return found

def sockets():
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        try:
            with open("/proc/net/" + table) as stream:
                rows = [line.split() for line in stream][1:]
        except OSError:
            continue
        # TIME_WAIT and its like are the kernel's memory of connections that are over.
        found += [(table, row[1], row[2]) for row in rows if row[3] in ("01", "02", "03", "07", "0A")]
    return sorted(found)

def processes():
    found = {}
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) not in (os.getpid(), os.getppid()):
            try:
                with open("/proc/%s/cmdline" % pid) as stream:
                    found[pid] = stream.read().replace("\0", " ")
            except OSError:
                pass
    return found

def told(*words):
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return []
    return [line.split("[")[0] for line in done.stdout.decode().splitlines() if not line.startswith("#")]

print(json.dumps({
    "files": {top: files(top) for top in sys.argv[1:]},
    "sysctl": sysctls("/proc/sys/net"),
    "sockets": sockets(),
    "processes": processes(),
    "firewall": [told("iptables-save"), told("iptables-legacy-save"), told("nft", "list", "ruleset")],
    "links": told("ip", "-o", "addr"),
    "routes": told("ip", "route", "show", "table", "all"),
    "limits": told("sh", "-c", "ulimit -a"),
}))
"""


def state(host: VirtualHost) -> dict[str, Any]:
    tops = [str(host.environment()["HOME"]), "/tmp", "/var/tmp", "/run", "/dev/shm", "/etc/ssh"]
    elsewhere = os.environ["CLUSTERCTL_HOME"]
    found: dict[str, Any] = json.loads(
        host.admin([sys.executable, "-I", "-S", "-c", _STATE, elsewhere, *tops])
    )
    return found


def settled(host: VirtualHost, before: dict[str, Any]) -> dict[str, Any]:
    """The state when sshd has ended its sessions, or what is left of them after long enough."""
    for _ in range(120):
        now = state(host)
        if now["processes"].keys() == before["processes"].keys() and now["sockets"] == before["sockets"]:
            break
        time.sleep(0.5)
    return now


def changes(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What differs, each thing by its name."""
    found: dict[str, Any] = {}
    for part, then in before.items():
        if isinstance(then, dict):
            inner = changes(then, now[part]) if part in ("files",) else _of_dict(then, now[part])
            found.update({f"{part}: {name}": each for name, each in inner.items()})
        elif then != now[part]:
            found[part] = (then, now[part])
    return found


_TRIED = "files: /tmp: /tmp"
"""Python itself, when torch is imported, tries whether it can write there, and removes what it wrote."""


def beyond_torch(found: dict[str, Any]) -> dict[str, Any]:
    """Without the time at which /tmp was last written to."""
    then, now = found.get(_TRIED, ([0], [0]))
    only_its_time = [then[0], *then[2:]] == [now[0], *now[2:]]
    return {name: each for name, each in found.items() if name != _TRIED or not only_its_time}


def _of_dict(then: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    return {
        name: (then.get(name), now.get(name)) for name in {**then, **now} if then.get(name) != now.get(name)
    }


@pytest.fixture
def box(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """Hosts that have been logged in to once: what a first login writes is sshd's. Their kernels have made
    sure that nobody else bears their addresses."""
    box = make_sandbox(hosts=[HostSpec("one"), HostSpec("two")])
    for host in box.hosts:
        (host.home / "project").mkdir()
        (host.home / "project/data.txt").write_text("precious\n")
        host.admin(["sh", "-c", "touch /dev/shm/nccl-left /tmp/left"])
        host.admin(["sh", "-c", "while ip -o addr | grep -q tentative; do sleep 0.1; done"])
    done = clusterctl(box, "exec", "--hostfile", str(box.hostfile), "--", "true")
    assert done.returncode == 0, done.stderr
    return box


def test_doctor_changes_nothing_on_a_host(box: Sandbox) -> None:
    before = {host.name: settled(host, state(host)) for host in box.hosts}
    assert all(len(each["files"]) > 4 and each["sysctl"] and each["processes"] for each in before.values())
    for words in (("--quick", "--fix"), ("-v",)):
        done = clusterctl(box, "doctor", str(box.hostfile), *words)
        assert "hosts ready" in done.stdout + done.stderr
        for host in box.hosts:
            found = changes(before[host.name], settled(host, before[host.name]))
            assert (found if "--quick" in words else beyond_torch(found)) == {}, words


@pytest.mark.long
def test_nor_when_it_is_killed_in_the_middle(box: Sandbox) -> None:
    before = {host.name: settled(host, state(host)) for host in box.hosts}
    doctor = subprocess.Popen(
        [sys.executable, "-m", "clusterctl", "doctor", str(box.hostfile)],
        cwd=ROOT,
        env={**os.environ, "CLUSTERCTL_SSH_CONFIG": str(box.ssh_config)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        quiet = {host.name: len(before[host.name]["processes"]) for host in box.hosts}
        # Two more than a session's own: the probe has begun.
        while doctor.poll() is None and not all(len(h.pids()) > quiet[h.name] + 2 for h in box.hosts):
            time.sleep(0.05)
        assert doctor.poll() is None, "it was over before it could be killed"
    finally:
        os.killpg(doctor.pid, signal.SIGKILL)
        doctor.wait()
    for host in box.hosts:
        assert beyond_torch(changes(before[host.name], settled(host, before[host.name]))) == {}


def test_the_comparison_sees_what_changes(box: Sandbox) -> None:
    host = box.host("one")
    before = state(host)
    (host.home / "project/data.txt").write_text("less\n")
    host.admin(["sh", "-c", "touch /dev/shm/new; sleep 300 >/dev/null 2>&1 &"])
    host.admin(["sysctl", "-q", "-w", "net.ipv4.ip_local_port_range=40000 50000"])
    host.admin(["ip", "addr", "add", "10.99.0.1/32", "dev", "lo"])
    host.block("in", "drop", (1, 2))
    found = " ".join(changes(before, state(host)))
    for part in ("data.txt", "/dev/shm", "sysctl: ", "links", "firewall", "processes: "):
        assert part in found, part

"""The script of `doctor --fix` is run as it is printed, on hosts that are really broken."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterctl.report.fix_script import script
from clusterctl.sandbox import HostSpec, Sandbox
from clusterctl.sandbox.host import VirtualHost
from clusterctl.session import hosts
from clusterctl.session.cluster import Cluster
from clusterctl.session.examine import Examination
from tests.faults.real import clusterctl
from tests.integration.test_doctor_sandbox import doctor, problems

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(
        os.geteuid() != 0, reason="sudo on the hosts of an ordinary user's sandbox is no root"
    ),
]


def _sudo(box: Sandbox) -> None:
    """Who logs in is root already; the default iptables needs nf_tables, which some kernels lack."""
    for host in box.hosts:
        host.install("/usr/bin/sudo", '#!/bin/sh\nexec "$@"\n', 0o755)
        try:
            host.admin(["iptables", "-L", "-n"])
        except Exception:  # noqa: BLE001 (whatever is wrong with it, the other one is tried)
            host.install("/usr/local/sbin/iptables", '#!/bin/sh\nexec iptables-legacy "$@"\n', 0o755)


def _run(text: str, folder: Path, *chosen: str) -> subprocess.CompletedProcess[str]:
    (folder / "fix.sh").write_text(text)
    return subprocess.run(
        ["setsid", "--wait", "bash", str(folder / "fix.sh"), *chosen],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        stdin=subprocess.DEVNULL,
    )


def _admin(*lines: str) -> Callable[[VirtualHost], None]:
    def spoil(host: VirtualHost) -> None:
        for line in lines:
            host.admin(["sh", "-c", line])

    return spoil


def _accelerate(host: VirtualHost) -> None:
    path = host.home / ".cache/huggingface/accelerate/default_config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("mixed_precision: fp16\n")


FAULTS: dict[str, tuple[str, Callable[[VirtualHost], None]]] = {
    "nameless": ("name.own", lambda host: host.install("/etc/hosts", "127.0.0.1 localhost\n")),
    "noexec": (
        "os.noexec",
        _admin("mount --rbind /tmp /tmp", "mount -o remount,bind,noexec /tmp"),
    ),
    "readonly": (
        "os.write",
        _admin("mount --rbind /tmp /tmp", "mount -o remount,bind,ro /tmp"),
    ),
    "jumbo": ("net.mtu", lambda host: host.set_mtu("eth0", 9000)),
    "shm": ("os.shm", _admin("mount -o remount,size=8M /dev/shm")),
    "stale": ("os.shm-stale", _admin("touch '/dev/shm/nccl-a b' /dev/shm/torch_1")),
    "ports": ("net.portrange", _admin("sysctl -q -w net.ipv4.ip_local_port_range='50000 50100'")),
    "strict": (
        "net.rp_filter",
        _admin("sysctl -q -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1"),
    ),
}
"""Host -> the code of its fault. Where the cure is a line, the script holds it."""

BY_HAND: dict[str, tuple[str, Callable[[VirtualHost], None]]] = {
    "noise": ("env.noise", lambda host: host.shell_profile("echo Welcome\n")),
    "complains": ("env.stderr", lambda host: host.shell_profile(". /opt/site/setup.sh\n")),
}
SAFE: dict[str, tuple[str, Callable[[VirtualHost], None]]] = {
    "tmpdir": ("os.write", lambda host: host.shell_profile('export TMPDIR="$HOME/a b/scratch"\n')),
    "accelerate": ("sw.accelerate-config", _accelerate),
}


def test_the_script_cures_what_doctor_found(make_sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    every = FAULTS | SAFE | BY_HAND
    box = make_sandbox(hosts=[HostSpec(name) for name in ("one", "two", "three", *every)])
    _sudo(box)
    strict = box.host("strict")
    strict.add_decoy_bridge("br7", f"{box.host('one').address().rpartition('.')[0]}.250/32")
    for name, (_, spoil) in every.items():
        spoil(box.host(name))
    codes = "name.own,os,net.mtu,net.portrange,net.rp_filter,sw.accelerate-config,env.noise,env.stderr"
    asked = ("--quick", "--only", codes, "--skip", "os.load=this machine is busy")
    _, sick = doctor(box, *asked)
    expected: dict[str, set[str]] = {}
    for name, (code, _) in every.items():
        expected.setdefault(code, set()).add(name)
    assert problems(sick) == expected

    applied = clusterctl(box, "doctor", str(box.hostfile), *asked, "--apply", "--yes")
    for name, (code, _) in SAFE.items():
        assert f"✓ cured: {code} of {name}\n" in applied.stderr
    assert (box.host("tmpdir").home / "a b/scratch").is_dir()
    aside = box.host("accelerate").home / ".cache/huggingface/accelerate/default_config.yaml.old"
    assert aside.read_text() == "mixed_precision: fp16\n"

    printed = clusterctl(box, "doctor", str(box.hostfile), *asked, "--fix")
    done = _run(printed.stdout, tmp_path)
    assert "not all of it worked" not in done.stderr, done.stderr
    assert {line.removeprefix("== ") for line in done.stdout.splitlines() if line.startswith("== ")} == {
        *FAULTS
    }
    _, better = doctor(box, *asked)
    assert problems(better) == {"env.noise": {"noise"}, "env.stderr": {"complains"}}

    fix = next(finding["fix"] for finding in better["findings"] if finding["code"] == "env.noise")
    line = str(fix).removeprefix("in ~/.bashrc, before the printing: ")
    box.host("noise").shell_profile(f"{line}\necho Welcome\n")
    box.host("complains").shell_profile("")  # corrected, as the fix says
    _, well = doctor(box, *asked)
    assert problems(well) == {}


def _examine(box: Sandbox) -> Examination:
    return Cluster(hosts.of_sandbox(box)).examine(torch=False)


def _codes(seen: Examination) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for finding in seen.report.findings:
        if finding.severity != "info" and finding.code.startswith("net."):
            found.setdefault(finding.code, set()).update(finding.hosts)
    return found


@pytest.mark.long
def test_the_script_opens_the_network(make_sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    """Firewalls in and out."""
    names = ("one", "two", "three", "inbound", "outbound")
    box = make_sandbox(hosts=[HostSpec(name) for name in names])
    _sudo(box)
    box.host("inbound").block("in", "drop", (32768, 60999))
    box.host("outbound").block("out", "drop", (32768, 60999))
    sick = _examine(box)
    assert _codes(sick) == {"net.backconnect": {"inbound", "outbound"}}
    text = script(sick.report, sick.material.inventory, "now", ("-F", str(box.ssh_config)))
    done = _run(text, tmp_path)
    assert "not all of it worked" not in done.stderr, done.stderr
    assert _codes(_examine(box)) == {}

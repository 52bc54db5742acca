"""doctor against real SSH servers: each sickness is found on the right host; health is quiet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusterctl.sandbox import FileSpec, HostSpec, Nic, Sandbox
from tests.faults.nvidia import fake_smi
from tests.faults.real import clusterctl

pytestmark = pytest.mark.sandbox

ROOT = Path(__file__).parents[2]
MakeSandbox = Callable[..., Sandbox]


def doctor(box: Sandbox, *argv: str) -> tuple[int, dict[str, Any]]:
    """(exit code, the JSON report). Nothing but the report is on stdout."""
    done = clusterctl(box, "doctor", str(box.hostfile), "--json", *argv)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def problems(report: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for finding in report["findings"]:
        if finding["severity"] != "info":
            found.setdefault(finding["code"], set()).update(finding["hosts"])
    return found


def observed(report: dict[str, Any], code: str) -> str:
    return next(str(finding["observed"]) for finding in report["findings"] if finding["code"] == code)


def test_a_healthy_sandbox_is_ready_and_quiet(sandbox: Sandbox) -> None:
    code, report = doctor(sandbox)
    assert problems(report) == {}
    assert (code, report["verdict"]) == (0, "ready")
    assert {host["verdict"] for host in report["hosts"].values()} == {"ready"}
    assert {entry["ifname"] for entry in report["network"].values()} == {"eth0"}
    ran = {check["code"] for check in report["checks"] if check["status"] == "pass"}
    assert {"net.backconnect", "net.pmtu", "sw.torch-import", "net.master-port", "e2e.gloo"} <= ran


def test_the_page_for_people_ends_with_what_to_type(sandbox: Sandbox) -> None:
    done = clusterctl(sandbox, "doctor", "--quick", "--hostfile", str(sandbox.hostfile))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert lines[-1].startswith("✓ 4 of 4 hosts ready")
    assert str(sandbox.hostfile) in done.stdout + done.stderr
    assert not any(line.startswith("!") for line in lines)


def test_selection(sandbox: Sandbox) -> None:
    _, report = doctor(sandbox, "--quick", "-e", "node3")
    assert list(report["hosts"]) == ["node1", "node2", "node4"]


def test_wrong_usage_is_64(sandbox: Sandbox) -> None:
    done = clusterctl(sandbox, "doctor", "/nowhere/hostfile")
    assert done.returncode == 64
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


def test_interface_names_that_differ_and_a_bridge_that_all_have(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=[HostSpec("a", nics=(Nic("eno1"),)), HostSpec("b", nics=(Nic("enp5s0"),))])
    for host in box.hosts:
        host.add_decoy_bridge("docker0", "172.17.0.1/16")
    code, report = doctor(box)
    assert (code, problems(report)) == (0, {})
    assert {name: entry["ifname"] for name, entry in report["network"].items()} == {
        "a": "eno1",
        "b": "enp5s0",
    }
    assert report["network"]["b"]["env"]["NCCL_SOCKET_IFNAME"] == "=enp5s0"
    shown = clusterctl(box, "env", "b", "--hostfile", str(box.hostfile))
    assert shown.returncode == 0, shown.stderr
    assert "export GLOO_SOCKET_IFNAME=enp5s0" in shown.stdout
    assert "export NODE_RANK=1" in shown.stdout


def test_a_firewall_before_the_ports_that_the_os_chooses(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=[HostSpec("a"), HostSpec("b"), HostSpec("c")])
    box.host("b").block("in", "drop", (32768, 60999))
    code, report = doctor(box)
    assert code == 1
    assert problems(report) == {"net.backconnect": {"b"}}
    assert "from all 2 peers dropped" in observed(report, "net.backconnect")
    assert report["hosts"]["a"]["verdict"] == "ready"


@pytest.mark.parametrize(("kind", "word"), [("reset", "TCP reset"), ("admin-prohibited", "admin-prohibited")])
def test_other_kinds_of_firewall_are_told_apart(make_sandbox: MakeSandbox, kind: str, word: str) -> None:
    box = make_sandbox(hosts=[HostSpec("a"), HostSpec("b")])
    box.host("a").block("in", kind, (1024, 65535))  # type: ignore[arg-type]
    _, report = doctor(box)
    assert word in observed(report, "net.backconnect")


def test_an_mtu_black_hole(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(
        hosts=[HostSpec("a", nics=(Nic("eth0", mtu=9000),)), HostSpec("b", nics=(Nic("eth0", mtu=9000),))]
    )
    box.host("b").set_switch_mtu("eth0", 1500)
    for host in box.hosts:
        # A real card cuts segments before the switch sees them; a virtual cable hands them over whole.
        host.admin(["ip", "link", "set", "eth0", "gso_max_segs", "1"])
    code, report = doctor(box)
    assert code == 1
    assert "net.pmtu" in problems(report)
    assert "net.backconnect" not in problems(report)


def test_another_torch_on_one_host(make_sandbox: MakeSandbox) -> None:
    import torch

    box = make_sandbox(hosts=[HostSpec("a"), HostSpec("b"), HostSpec("c")])
    version_file = Path(torch.__file__).with_name("version.py")
    text = version_file.read_text(encoding="utf-8")
    box.host("c").install(str(version_file), text.replace(torch.__version__.partition("+")[0], "2.1.0"))
    code, report = doctor(box, "--quick")
    assert code == 1
    assert problems(report) == {"sw.torch": {"c"}}


def test_the_profile_is_held_against_every_host(sandbox: Sandbox, tmp_path: Path) -> None:
    profile = tmp_path / "lab.yaml"
    profile.write_text("expect:\n  python: 2.7\n")
    code, report = doctor(sandbox, "--quick", "--profile", str(profile))
    assert (code, problems(report)) == (1, {"sw.python": {"node1", "node2", "node3", "node4"}})
    profile.write_text("expect:\n  pyhton: 3\n")
    done = clusterctl(sandbox, "doctor", "--profile", str(profile))
    assert done.returncode == 64
    assert "lab.yaml line 2" in done.stderr


def test_what_was_kept_is_judged_again_without_any_host(sandbox: Sandbox, tmp_path: Path) -> None:
    kept, good = str(tmp_path / "kept"), str(tmp_path / "good")
    code, live = doctor(sandbox, "--capture", kept, "--hostfile-out", good)
    again = clusterctl(sandbox, "doctor", "--replay", kept, "--json")
    assert (again.returncode, json.loads(again.stdout)) == (code, live), again.stderr
    assert Path(good).read_text().splitlines()[1:] == [f"node{number} slots=2" for number in range(1, 5)]
    plan = clusterctl(sandbox, "launch", "-H", good, "--dry-run", "--no-python", "true")
    assert plan.returncode == 0, plan.stderr


def test_a_small_shared_memory(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=[HostSpec("a"), HostSpec("b")])
    box.host("b").admin(["mount", "-t", "tmpfs", "-o", "size=16m", "shm", "/dev/shm"])
    code, report = doctor(box, "--quick")
    assert (code, problems(report)) == (1, {"os.shm": {"b"}})


def test_a_host_that_is_down_and_one_whose_key_changed(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=[HostSpec("a"), HostSpec("b"), HostSpec("c")])
    box.host("b").stop_sshd()
    known = box.known_hosts.read_text()
    key_of_a = known.splitlines()[0].split()[2]
    lines = [
        " ".join([*line.split()[:2], key_of_a]) if line.startswith("c,") else line
        for line in known.splitlines()
    ]
    box.known_hosts.write_text("\n".join(lines) + "\n")
    code, report = doctor(box, "--quick")
    assert code == 1
    assert problems(report) == {"ssh.reach": {"b"}, "ssh.hostkey": {"c"}}
    assert {name: host["verdict"] for name, host in report["hosts"].items()} == {
        "a": "ready",
        "b": "not-ready",
        "c": "not-ready",
    }
    page = clusterctl(box, "doctor", "--quick", str(box.hostfile)).stdout
    assert page.strip().splitlines()[-1].endswith("--exclude b@c")


def test_three_gpus_and_one(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(
        hosts=[
            HostSpec("a", slots=3, files={"/usr/bin/nvidia-smi": FileSpec(fake_smi("a", 3), 0o755)}),
            HostSpec("b", slots=1, files={"/usr/bin/nvidia-smi": FileSpec(fake_smi("b", 1), 0o755)}),
        ]
    )
    _, report = doctor(box, "--quick")
    assert {name: len(host["facts"]["nvidia"]["gpus"]) for name, host in report["hosts"].items()} == {
        "a": 3,
        "b": 1,
    }
    assert not {"host.slots", "gpu.smi", "gpu.model", "gpu.count"} & problems(report).keys()


def test_slots_beyond_the_gpus(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(
        hosts=[
            HostSpec("a", slots=2, files={"/usr/bin/nvidia-smi": FileSpec(fake_smi("a", 2), 0o755)}),
            HostSpec("b", slots=2, files={"/usr/bin/nvidia-smi": FileSpec(fake_smi("b", 1), 0o755)}),
        ]
    )
    _, report = doctor(box, "--quick")
    assert problems(report)["host.slots"] == {"b"}


def test_a_shell_that_prints_a_banner(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=[HostSpec("a"), HostSpec("b")])
    box.host("b").shell_profile("echo Welcome to the lab; sleep 1\n")
    code, report = doctor(box, "--quick")
    assert (code, problems(report)) == (0, {"env.noise": {"b"}})
    strict, _ = doctor(box, "--quick", "--strict")
    assert strict == 1

"""What a machine leaves to a session, read from text as kernels, logind and package managers write it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clusterctl.node.probe import gpu, gpu_links, gpu_nodes, kernel_log, machine, net, python, system

# As dmesg of util-linux shows the words of a kernel 6.1.
KERNEL = (Path(__file__).parent / "fixtures/kernel/xid-and-oom.txt").read_text()


def test_the_kernel_s_words_are_read() -> None:
    found = kernel_log.parse(KERNEL, now=2200.5)
    assert [(each["code"], each["device"], each["age"]) for each in found["xids"]] == [
        (79, "0000:3b:00", 1000.0),
        (31, "0000:86:00", 900.2),
    ]
    assert "fallen off the bus" in found["xids"][0]["text"]
    assert [(each["command"], each["cgroup"]) for each in found["oom_kills"]] == [
        ("python3", ""),
        ("java", "/docker/4f"),
    ]


def test_the_journal_has_the_same_lines_behind_a_name() -> None:
    text = "[ 1200.500000] gpu1 kernel: NVRM: Xid (PCI:0000:3b:00): 48, DBE (double bit error)\n"
    assert [each["code"] for each in kernel_log.parse(text, 1300.0)["xids"]] == [48]


def test_who_may_not_read_the_log_learns_why(tmp_path: Path) -> None:
    for name in ("dmesg", "journalctl"):
        tool = tmp_path / name
        tool.write_text("#!/bin/sh\necho 'read kernel buffer failed: Operation not permitted' >&2; exit 1\n")
        tool.chmod(0o755)
    found = kernel_log.kernel_log({"PATH": str(tmp_path)})["kernel_log"]
    assert found == {"error": "read kernel buffer failed: Operation not permitted"}


def test_the_tightest_limit_on_the_way_to_the_root_counts(tmp_path: Path) -> None:
    base = tmp_path / "user.slice/user-1000.slice/session-4.scope"
    base.mkdir(parents=True)
    (base / "memory.max").write_text("max\n")
    (base / "pids.max").write_text("9000\n")
    (base.parent / "memory.max").write_text("4294967296\n")
    (base.parent / "pids.max").write_text("12000\n")
    (base.parent.parent / "memory.max").write_text("68719476736\n")
    (base.parent.parent / "cpu.max").write_text("250000 100000\n")
    found = machine.cgroup("0::/user.slice/user-1000.slice/session-4.scope", str(tmp_path))
    assert found == {
        "memory": 4 << 30,
        "memory_path": "/user.slice/user-1000.slice",
        "pids": 9000,
        "cpus": 2.5,
    }


def test_version_1_of_control_groups(tmp_path: Path) -> None:
    for controller, name, text in (
        ("memory", "memory.limit_in_bytes", "9223372036854771712"),
        ("memory/box", "memory.limit_in_bytes", "2147483648"),
        ("pids/box", "pids.max", "max"),
        ("cpu,cpuacct/box", "cpu.cfs_quota_us", "-1"),
        ("cpu,cpuacct/box", "cpu.cfs_period_us", "100000"),
    ):
        (tmp_path / controller).mkdir(parents=True, exist_ok=True)
        (tmp_path / controller / name).write_text(f"{text}\n")
    text = "9:memory:/box\n8:pids:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/box\n0::/\n"
    found = machine.cgroup(text, str(tmp_path))
    assert found == {"memory": 2 << 30, "memory_path": "/box", "pids": None, "cpus": None}


@pytest.mark.parametrize(
    ("uid_map", "told"), [("         0          0 4294967295", 0x1FFFFFFFFFF), ("0 1000 1", 0)]
)
def test_capabilities_of_a_user_namespace_lift_no_limit(uid_map: str, told: int) -> None:
    status = "Name:\tpython3\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n"
    assert machine.capabilities(status, uid_map) == told


@pytest.mark.parametrize(
    ("packages", "told"),
    [
        (None, ""),
        ("", "packages upgraded"),
        ("linux-base\nlibc6\nlibc6\n", "linux-base, libc6 upgraded"),
    ],
)
def test_a_reboot_that_is_due(tmp_path: Path, packages: str | None, told: str) -> None:
    if packages is not None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/reboot-required").write_text("*** System restart required ***\n")
        (tmp_path / "run/reboot-required.pkgs").write_text(packages)
    assert machine.reboot_required(str(tmp_path)) == told


def test_what_is_written_for_logind(tmp_path: Path) -> None:
    assert machine.logind({}, str(tmp_path)) == {"logind": None}
    conf = tmp_path / "etc/systemd/logind.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text("[Login]\n#RemoveIPC=no\n#KillUserProcesses=no\n")
    assert machine.logind({}, str(tmp_path)) == {"logind": None}
    extra = tmp_path / "etc/systemd/logind.conf.d/lab.conf"
    extra.parent.mkdir()
    extra.write_text("[Login]\nRemoveIPC = yes\n")
    found = machine.logind({}, str(tmp_path))["logind"]
    assert (found["remove_ipc"], found["kill_processes"], found["linger"]) == (True, None, False)


def test_a_running_logind_is_asked(tmp_path: Path) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    tool = tmp_path / "busctl"
    tool.write_text("#!/bin/sh\necho b true\necho b false\n")
    tool.chmod(0o755)
    found = machine.logind({"PATH": str(tmp_path)}, str(tmp_path))["logind"]
    assert (found["remove_ipc"], found["kill_processes"]) == (True, False)


def test_a_login_is_timed_from_the_shell_that_became_our_parent() -> None:
    found = machine.login()
    assert found is not None
    assert found["seconds"] >= 0 and found["cpu"] >= 0


def test_figures_that_the_driver_refuses_with_exit_code_0() -> None:
    text = (
        "0, GPU-a, NVIDIA A100, 81920, [GPU requires reset], 550.54.15, [N/A], Default, [N/A], "
        "[Not Supported], 00000000:3B:00.0, Enabled, 16, 16, 0x0000000000000001, No, No\n"
        "1, GPU-b, NVIDIA A100, [Unknown Error], [Unknown Error], 550.54.15, 0, Default, Disabled, "
        "0, 00000000:86:00.0, Disabled, 8, 16, 0x0000000000000040, Yes, 0\n"
    )
    first, second = gpu.gpus(text)
    assert first["faults"] == ["memory.used: [GPU requires reset]"]
    assert second["faults"] == ["memory.total: [Unknown Error]", "memory.used: [Unknown Error]"]
    assert (first["throttle"], second["throttle"], second["pcie_width"]) == (1, 0x40, 8)
    assert (first["remap_pending"], second["remap_pending"], second["remap_failed"]) == (False, True, False)
    assert (first["bus"], second["persistence"]) == ("00000000:3B:00.0", "Disabled")


def test_links_are_counted_under_their_card() -> None:
    cards = [{"index": 0}, {"index": 1}, {"index": 2}]
    gpu_links.add_nvlinks(
        cards,
        "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-a)\n\t Link 0: 26.562 GB/s\n\t Link 1: 26.562 GB/s\n"
        "GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-b)\n\t Link 0: <inactive>\n\t Link 1: 26.562 GB/s\n"
        "GPU 2: NVIDIA L4 (UUID: GPU-c)\n",
    )
    assert cards == [{"index": 0, "nvlinks": (2, 0)}, {"index": 1, "nvlinks": (1, 1)}, {"index": 2}]


@pytest.mark.parametrize(("cell", "told"), [("OK", True), ("CNS", False), ("NS", False)])
def test_the_matrix_of_peer_to_peer(cell: str, told: bool) -> None:
    text = (
        f" \tGPU0\tGPU1\t\n GPU0\tX\t{cell}\t\n GPU1\t{cell}\tX\t\n\n"
        "Legend:\n\n  X    = Self\n  OK   = Status Ok\n  CNS  = Chipset not supported\n"
    )
    assert gpu_links.offers_p2p(text) is told
    assert gpu_links.offers_p2p("Unknown option -p2p\n") is None


def test_a_field_that_a_driver_does_not_know_costs_only_itself(tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        """#!/bin/sh
case "$1" in
*clocks_throttle*) echo 'Field "clocks_throttle_reasons.active" is not a valid field to query.'; exit 2;;
--query-gpu*) echo '0, GPU-a, B200, 9, 0, 580.1, 0, Default, Disabled, 0, [N/A], Enabled, 8, 16, Yes, No';;
esac
"""
    )
    tool.chmod(0o755)
    (card,) = gpu.nvidia({"PATH": f"{tmp_path}:/usr/bin:/bin"})["nvidia"]["gpus"]
    assert (card["throttle"], card["pcie_width"], card["remap_pending"]) == (None, 8, True)


def test_who_drives_the_cards_on_the_bus(tmp_path: Path) -> None:
    (tmp_path / "drivers/nouveau").mkdir(parents=True)
    for name, vendor, kind in (
        ("a", "0x10de", "0x030000"),
        ("b", "0x10de", "0x030200"),
        ("c", "0x1002", "0x120000"),
    ):
        device = tmp_path / "devices" / name
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    (tmp_path / "devices/a/driver").symlink_to(tmp_path / "drivers/nouveau")
    assert gpu.devices(gpu.NVIDIA, str(tmp_path / "devices")) == ["nouveau", ""]
    assert gpu.devices(gpu.AMD, str(tmp_path / "devices")) == [""]


def test_a_bluefield_s_cable_is_no_network() -> None:
    assert net.kind({"flags": 0x41, "kind": "", "name": "tmfifo_net0"}, "") == "virtual"


def test_the_first_libnccl_that_the_loader_would_find(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/libnccl.so.2.14.3").write_text("")
    (tmp_path / "old/libnccl.so.2").symlink_to("libnccl.so.2.14.3")
    path = f"/nowhere:{tmp_path}/old"
    assert python.first_nccl({"LD_LIBRARY_PATH": path}) == f"{tmp_path}/old/libnccl.so.2.14.3"
    assert python.first_nccl({}) == ""


def test_a_conda_environment_takes_packages_of_the_user_first(tmp_path: Path) -> None:
    prefix, home = tmp_path / "env", tmp_path / "home"
    own = prefix / "lib/python3.11/site-packages"
    users = home / ".local/lib/python3.11/site-packages"
    for directory, version in ((own, "2.5.1"), (users, "2.3.0")):
        (directory / f"torch-{version}.dist-info").mkdir(parents=True)
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta/python-3.11.7-h955ad1f_0.json").write_text("{}")
    (prefix / "bin").mkdir()
    interpreter = prefix / "bin/python"
    interpreter.write_text("")
    interpreter.chmod(0o755)
    described = python.describe(str(interpreter), {"HOME": str(home)})
    assert described["packages"]["torch"] == "2.3.0"
    alone = python.describe(str(interpreter), {"HOME": str(home), "PYTHONNOUSERSITE": "1"})
    assert alone["packages"]["torch"] == "2.5.1"


def test_accelerate_s_file_without_what_is_each_machine_s_own(tmp_path: Path) -> None:
    path = tmp_path / "accelerate/default_config.yaml"
    path.parent.mkdir()
    path.write_text("compute_environment: LOCAL_MACHINE\nmachine_rank: 1\nmixed_precision: 'bf16'\n")
    told = system.accelerate_config({"HF_HOME": str(tmp_path)})
    assert told == "compute_environment: LOCAL_MACHINE, mixed_precision: 'bf16'"


def test_the_password_of_a_proxy_stays_on_its_host() -> None:
    told = system.settings({"https_proxy": "http://alice:secret@proxy:3128", "HOME": "/nowhere"})["variables"]
    assert [each["value"] for each in told] == ["http://***@proxy:3128"]


def test_a_home_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere/at/all")
    home = next(each for each in system.filesystems()["filesystems"] if each["role"] == "home")
    assert home["exists"] is False and home["writable"] is False


def test_the_matrix_of_connections_is_read_without_its_colours_and_adapters() -> None:
    text = (
        "\t\x1b[4mGPU0\tGPU1\tGPU2\tNIC0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m\n"
        "GPU0\t X \tNV12\tSYS\tPXB\t0-31\t0\t\tN/A\nGPU1\tNV12\t X \tSYS\tPXB\t0-31\t0\t\tN/A\n"
        "GPU2\tSYS\tSYS\t X \tNODE\t32-63\t1\t\tN/A\nNIC0\tPXB\tPXB\tNODE\t X \t\t\t\t\n"
        "\nLegend:\n\n  X    = Self\n"
    )
    assert gpu_links.topology(text) == {"0-1": "NV12", "0-2": "SYS", "1-2": "SYS"}
    assert gpu_links.topology("Failed to initialize NVML: Unknown Error\n") == {}


def test_device_nodes_that_this_user_may_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-modeset", "null"):
        (tmp_path / name).write_text("")
    (tmp_path / "nvidia1").chmod(0o060)
    monkeypatch.setattr(os, "access", lambda path, _: not path.endswith(("1", "uvm")))
    (first, second) = sorted(gpu_nodes.closed(str(tmp_path)), key=lambda node: str(node["path"]))
    assert (first["path"], first["group"]) == (f"{tmp_path}/nvidia-uvm", "")
    assert second["path"] == f"{tmp_path}/nvidia1" and second["group"]
    assert gpu_nodes.count(str(tmp_path)) == 2


def process(root: Path, pid: int, state: str, pending: str = "0" * 16, node: str = "") -> None:
    directory = root / str(pid)
    (directory / "fd").mkdir(parents=True)
    (directory / "stat").write_text(f"{pid} (python) train) {state} 1 1 0\n")
    (directory / "status").write_text(f"Name:\tpython\nSigPnd:\t{pending}\nShdPnd:\t{'0' * 16}\n")
    if node:
        (directory / "fd/3").symlink_to(node)


def test_processes_that_hold_a_card_and_do_not_end(tmp_path: Path) -> None:
    killed = f"{1 << 8:016x}"
    process(tmp_path, 10, "D", killed)
    process(tmp_path, 11, "D", killed, "/dev/nvidia0")
    process(tmp_path, 12, "D", node="/dev/nvidia0")
    process(tmp_path, 13, "Z")
    process(tmp_path, 14, "Z")
    process(tmp_path, 15, "R", killed, "/dev/nvidia0")
    process(tmp_path, 16, "D", killed, "/dev/nvme0")
    found = gpu_nodes.stuck([10, 13], str(tmp_path))
    assert [(each["pid"], each["state"]) for each in found] == [
        (10, "killed"),
        (11, "killed"),
        (13, "zombie"),
    ]


def test_a_computer_whose_gpu_is_in_its_processor(tmp_path: Path) -> None:
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    (tree / "compatible").write_bytes(b"nvidia,p3737-0000+p3701-0000\0nvidia,p3701-0000\0nvidia,tegra234\0")
    assert gpu_nodes.soc(str(tmp_path)) == "NVIDIA Jetson AGX Orin Developer Kit"
    (tree / "compatible").write_bytes(b"raspberrypi,5-model-b\0brcm,bcm2712\0")
    assert gpu_nodes.soc(str(tmp_path)) == ""


def test_errors_on_nvlinks_are_those_that_cost_something() -> None:
    cards = [{"index": 0}, {"index": 1}]
    gpu_links.add_nvlink_errors(
        cards,
        "GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-a)\n\t Link 0: Replay Errors: 3\n"
        "\t Link 0: Recovery Errors: 0\n\t Link 1: CRC Errors: 40\n"
        "GPU 1: NVIDIA B200 (UUID: GPU-b)\n\t Link 0: Symbol Errors: 90000\n"
        "\t Link 0: Effective Errors: 0\n\t Link 0: FEC Errors - 0: 123456789\n",
    )
    assert [card.get("nvlink_errors") for card in cards] == [43, 0]

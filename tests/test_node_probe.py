"""What runs on a node, on this machine: parsing what hardware prints, and surviving what breaks."""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from clusterctl.ask.bundle import REMOTE_COMMAND, pack
from clusterctl.ask.facts import PROBE
from clusterctl.node.e2e.imported import import_torch
from clusterctl.node.e2e.program import MARK as TOLD
from clusterctl.node.probe import gpu as probe_gpu
from clusterctl.node.probe import main as probe
from clusterctl.node.probe import mounts as probe_mounts
from clusterctl.node.probe import net as probe_net
from clusterctl.node.probe import python as probe_python
from clusterctl.node.probe import rdma as probe_rdma
from clusterctl.node.probe import smi as probe_smi
from clusterctl.node.probe import system as probe_system

SMI = Path(__file__).parent / "fixtures/nvidia-smi"
NODE = Path(__file__).parents[1] / "clusterctl/node"
MARK = b"@@clusterctl1 "


def smi(name: str) -> str:
    return (SMI / name).read_text(encoding="utf-8")


def tool(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def test_one_line_of_the_gpu_query_is_one_gpu() -> None:
    cards = probe_gpu.gpus(smi("h100-8.csv"))
    assert [card["index"] for card in cards] == list(range(8))
    busy = cards[2]
    assert (busy["name"], busy["memory_total"], busy["memory_used"], busy["utilization"]) == (
        "NVIDIA H100 80GB HBM3",
        81559 * 2**20,
        40316 * 2**20,
        98,
    )
    assert (cards[3]["ecc_errors"], cards[6]["compute_mode"]) == (2, "Exclusive_Process")
    assert (cards[7]["mig_mode"], cards[7]["utilization"]) == ("Enabled", None)


def test_what_a_geforce_does_not_have_is_unknown_and_not_zero() -> None:
    card = probe_gpu.gpus(smi("rtx3090-2.csv"))[0]
    assert (card["ecc_errors"], card["mig_mode"], card["compute_mode"]) == (None, "", "Default")


def test_processes_come_under_their_gpu_even_when_another_container_owns_them() -> None:
    cards = probe_gpu.gpus(smi("h100-8.csv"))
    own = f"{cards[0]['uuid']}, {os.getpid()}, 512, python"
    probe_gpu.add_processes(cards, smi("h100-8-apps.csv") + own)
    assert [process["pid"] for process in cards[2]["processes"]] == [4194001, 4194002]
    assert cards[2]["processes"][0]["memory"] == 40308 * 2**20
    assert cards[2]["processes"][1]["memory"] is None
    mine = cards[0]["processes"][0]
    assert "pytest" in mine["command"] or "python" in mine["command"]
    assert 0 < time.time() - mine["started"] < 86400


@pytest.mark.parametrize(
    ("name", "version"), [("proc-driver-open.txt", "550.54.15"), ("proc-driver-closed.txt", "535.183.01")]
)
def test_kernel_driver(name: str, version: str) -> None:
    assert probe_gpu.kernel_driver(smi(name)) == version


def test_an_old_driver_is_asked_again_for_less(tmp_path: Path) -> None:
    tool(
        tmp_path,
        "nvidia-smi",
        'case "$1" in *mig.mode*) echo \'Field "mig.mode.current" is not a valid field to query.\'; exit 2;; '
        "--query-gpu*) echo '0, GPU-1, Tesla V100-SXM2-16GB, 16160, 0, 418.87.00';; "
        f"--query-compute*) ;; *) cat {SMI}/table-h100.txt;; esac",
    )
    found = probe_gpu.nvidia({"PATH": f"{tmp_path}:/usr/bin:/bin"})["nvidia"]
    assert (found["exit_code"], found["gpus"][0]["name"]) == (0, "Tesla V100-SXM2-16GB")


def test_what_nvidia_smi_says_when_it_fails_is_kept(tmp_path: Path) -> None:
    tool(tmp_path, "nvidia-smi", f"cat {SMI}/mismatch.txt; exit 18")
    found = probe_gpu.nvidia({"PATH": f"{tmp_path}:/usr/bin:/bin"})["nvidia"]
    assert (found["present"], found["exit_code"]) == (True, 18)
    assert "Driver/library version mismatch" in found["error"]


def test_a_hanging_nvidia_smi_costs_its_limit_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_smi, "SMI_TIMEOUT", 0.5)
    tool(tmp_path, "nvidia-smi", "trap '' TERM; exec sleep 300")
    found = probe_gpu.nvidia({"PATH": f"{tmp_path}:/usr/bin:/bin"})["nvidia"]
    assert (found["present"], found["exit_code"], "gpus" in found) == (True, None, False)


def test_seconds_without_a_core_are_none_of_nvidia_smis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel counts as waiting for a core neither counts as slow nor uses up the limit."""
    began = time.monotonic()
    monkeypatch.setattr(probe_smi, "SMI_TIMEOUT", 0.5)
    monkeypatch.setattr(
        probe_smi, "_queued", lambda whose: 0.0 if whose == "thread-self" else time.monotonic() - began
    )
    tool(tmp_path, "nvidia-smi", f"sleep 1; cat {SMI}/h100-8.csv")
    code, text, seconds = probe_smi.Smi(str(tmp_path / "nvidia-smi"), dict(os.environ)).run()
    assert (code, text.count("\n") > 0, seconds < 0.5) == (0, True, True)


def test_gpus_on_the_pci_bus_are_counted_without_a_driver(tmp_path: Path) -> None:
    for number, (vendor, kind) in enumerate(
        [("0x10de", "0x030200"), ("0x10de", "0x030000"), ("0x10de", "0x040300"), ("0x8086", "0x030000")]
    ):
        device = tmp_path / f"0000:0{number}:00.0"
        device.mkdir()
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    assert probe_gpu.devices(probe_gpu.NVIDIA, str(tmp_path)) == ["", ""]
    assert probe_gpu.devices(probe_gpu.NVIDIA, str(tmp_path / "missing")) is None


def test_a_host_without_rdma_says_so(tmp_path: Path) -> None:
    assert probe_rdma.rdma({}, str(tmp_path)) == {
        "rdma": [],
        "verbs_library": None,
        "verbs_devices": None,
        "peer_memory": None,
    }


def test_the_mtu_in_use_is_what_the_verbs_tool_says() -> None:
    text = """hca_id:\tmlx5_0
\ttransport:\t\t\tInfiniBand (0)
\t\tport:\t1
\t\t\tstate:\t\t\tPORT_ACTIVE (4)
\t\t\tmax_mtu:\t\t4096 (5)
\t\t\tactive_mtu:\t\t1024 (3)
hca_id:\tmlx5_1
\t\tport:\t1
\t\t\tactive_mtu:\t\t4096 (5)
"""
    assert probe_rdma.active_mtus(text) == {("mlx5_0", 1): 1024, ("mlx5_1", 1): 4096}
    assert probe_rdma.active_mtus("No IB devices found\n") == {}


def test_interfaces_agree_with_the_system() -> None:
    found = {link["name"]: link for link in probe_net.interfaces()["interfaces"]}
    assert {name for _, name in socket.if_nameindex()} == set(found)
    assert found["lo"]["kind"] == "loopback"
    assert {"family": "inet", "address": "127.0.0.1", "prefix": 8, "scope": "host"} in found["lo"][
        "addresses"
    ]


@pytest.mark.parametrize(
    ("said", "kind"),
    [("veth", "veth"), ("bond", "bond"), ("vlan", "vlan"), ("bridge", "bridge"), ("wireguard", "wireguard"),
     ("tun", "tun"), ("vxlan", "virtual"), ("dummy", "virtual"), ("ipoib", "physical"), ("", "physical")],
)  # fmt: skip
def test_kinds_of_interface(said: str, kind: str) -> None:
    assert probe_net.kind({"flags": 0x41, "kind": said}, "") == kind


def test_an_interface_without_a_device_is_virtual_and_with_a_radio_wireless(tmp_path: Path) -> None:
    assert probe_net.kind({"flags": 0x41, "kind": ""}, str(tmp_path)) == "virtual"
    (tmp_path / "device").mkdir()
    assert probe_net.kind({"flags": 0x41, "kind": ""}, str(tmp_path)) == "physical"
    (tmp_path / "phy80211").mkdir()
    assert probe_net.kind({"flags": 0x41, "kind": ""}, str(tmp_path)) == "wireless"


def test_names_that_do_not_resolve_say_why() -> None:
    found = {name["query"]: name for name in probe_net.names(["localhost", "no-such.invalid", "ä"])["names"]}
    assert "127.0.0.1" in found["localhost"]["addresses"] or "::1" in found["localhost"]["addresses"]
    assert not found["no-such.invalid"]["addresses"] and found["no-such.invalid"]["error"]
    assert not found["ä"]["addresses"] and found["ä"]["error"]


def environment(prefix: Path, *packages: str) -> Path:
    """A venv as its files look; its interpreter would not start, so it must not be started."""
    site = prefix / "lib/python3.11/site-packages"
    site.mkdir(parents=True)
    for package in packages:
        (site / f"{package}.dist-info").mkdir()
    (prefix / "bin").mkdir()
    tool(prefix / "bin", "python", "echo started >&2; exit 9")
    (prefix / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.9\n")
    return prefix / "bin/python"


def test_a_venv_is_read_without_starting_its_python(tmp_path: Path) -> None:
    python = environment(tmp_path, "torch-2.5.1+cu124", "nvidia_nccl_cu12-2.21.5", "Flash_Attn-2.6.3", "x-1")
    version = tmp_path / "lib/python3.11/site-packages/torch/version.py"
    version.parent.mkdir()
    version.write_text(
        "from typing import Optional\n__all__ = ['__version__', 'debug', 'cuda', 'git_version']\n"
        "__version__ = '2.5.1+cu124'\ndebug = False\ncuda: Optional[str] = '12.4'\n"
        "git_version = 'a8d6afb511a69687bbb2b7e88a3cf67917e1697e'\nhip: Optional[str] = None\n"
    )
    found = probe_python.describe(str(python), {"PATH": "/usr/bin"})
    assert (found["executable"], found["version"], found["error"]) == (str(python), "3.11.9", "")
    assert found["packages"] == {"torch": "2.5.1+cu124", "nvidia-nccl-cu12": "2.21.5", "flash-attn": "2.6.3"}
    assert (found["torch_cuda"], found["torch_git"][:7]) == ("12.4", "a8d6afb")


def test_a_cpu_build_of_torch_has_no_cuda(tmp_path: Path) -> None:
    python = environment(tmp_path, "torch-2.13.0")
    version = tmp_path / "lib/python3.11/site-packages/torch/version.py"
    version.parent.mkdir()
    version.write_text("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\ngit_version = 'cf3'\n")
    found = probe_python.describe(str(python), {})
    assert (found["torch_cuda"], found["packages"]["torch"]) == ("", "2.13.0+cpu")


def test_a_system_python_tells_itself_where_it_imports_from() -> None:
    found = probe_python.describe(sys.executable, {**os.environ, "PYTHONPATH": "/somewhere"})
    assert found["executable"] == sys.executable
    assert found["version"] == ".".join(map(str, sys.version_info[:3]))
    assert "pydantic" in found["packages"]


def test_pythons_that_cannot_train_say_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    tool(tmp_path, "broken", "echo 'libpython3.11.so.1.0: cannot open shared object file' >&2; exit 127")
    said = {
        name: probe_python.describe(f"{tmp_path}/{name}", {})["error"] for name in ("none", "data", "broken")
    }
    assert said["none"].endswith("none does not exist")
    assert said["data"].endswith("data is not executable")
    assert "libpython3.11.so.1.0" in said["broken"]


def test_the_usual_python_is_the_first_that_has_torch(tmp_path: Path) -> None:
    bare, full = environment(tmp_path / "bare"), environment(tmp_path / "full", "torch-2.5.1")
    (bare.parent / "python3").symlink_to("python")
    request = {"controller_python": str(full)}
    assert probe_python.python(request, {"PATH": str(bare.parent)})["python"]["executable"] == str(full)
    request = {"controller_python": str(bare)}
    path = f"{bare.parent}:{full.parent}"
    assert probe_python.python(request, {"PATH": path})["python"]["executable"].startswith(str(bare.parent))
    tool(full.parent, "python3", "")
    path = f"{full.parent}:{bare.parent}"
    found = probe_python.python(request, {"PATH": path})["python"]
    assert found["executable"] == str(full.parent / "python3")
    assert "PATH" in found["requested"]


def test_settings_say_where_they_come_from(tmp_path: Path) -> None:
    (tmp_path / ".nccl.conf").write_text("# mine\nNCCL_DEBUG=WARN\n")
    (tmp_path / ".deepspeed_env").write_text("HF_TOKEN=secret\nNCCL_SOCKET_IFNAME=eth1\n")
    environ = {"HOME": str(tmp_path), "GLOO_SOCKET_IFNAME": "eth0", "AWS_SECRET_ACCESS_KEY": "x"}
    found = probe_system.settings(environ)["variables"]
    assert [(each["name"], each["value"], each["origin"]) for each in found] == [
        ("GLOO_SOCKET_IFNAME", "eth0", "environment"),
        ("NCCL_DEBUG", "WARN", f"{tmp_path}/.nccl.conf:2"),
        ("NCCL_SOCKET_IFNAME", "eth1", f"{tmp_path}/.deepspeed_env:2"),
    ]


def test_segments_without_an_owner_are_stale(tmp_path: Path) -> None:
    for name in ("nccl-abc", "nccl-used", "other"):
        (tmp_path / name).write_text("")
    with (tmp_path / "nccl-used").open():
        assert probe_system.stale_segments(str(tmp_path)) == {"stale_shm": [f"{tmp_path}/nccl-abc"]}


def test_one_broken_subsystem_costs_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, Any]:
        raise ValueError("strange kernel")

    monkeypatch.setattr(probe_net, "interfaces", broken)
    known, errors = probe.collect({"controller_python": sys.executable}, dict(os.environ))
    assert errors == ["interfaces: ValueError: strange kernel"]
    assert "interfaces" not in known
    assert known["hostname"] and known["python"]["version"] and known["filesystems"]


def test_a_home_on_one_export_has_one_token(tmp_path: Path) -> None:
    local = "/dev/sda1 / ext4 rw 0 0\n"
    shared = f"{local}filer:/export/home {tmp_path.parent} nfs4 rw 0 0\n"
    here, there = probe_mounts.table(shared), probe_mounts.table(local)
    token = probe_system.shared_token(str(tmp_path), here)
    assert "filer:/export/home" in token and token == probe_system.shared_token(str(tmp_path), here)
    assert probe_system.shared_token(str(tmp_path), there) == ""


def test_what_is_mounted_where() -> None:
    table = probe_mounts.table(
        "/dev/sda1 / ext4 rw,relatime 0 0\nfiler:/home /home nfs4 rw,hard,sec=sys 0 0\n"
        "//nas/x /mnt/a\\040b cifs rw,username=bob,vers=3 0 0\ntmpfs /home tmpfs rw 0 0\n"
    )
    assert probe_mounts.of("/homes/x", table)["source"] == "/dev/sda1"
    assert probe_mounts.of("/home/alice", table)["kind"] == "tmpfs", "the last one covers the others"
    share = probe_mounts.of("/mnt/a b/c", table)
    assert (share["kind"], share["options"], probe_mounts.shared(share)) == ("cifs", ["rw", "vers=3"], True)


def test_what_the_kernel_s_file_systems_show(tmp_path: Path) -> None:
    nothing = {"sysfs": False, "hides_processes": True, "exports": False}
    assert probe_mounts.kernel(str(tmp_path)) == {**nothing, "null_device": "missing"}
    for place in ("sys/class/net/lo", "sys/devices", "proc/1", "proc/fs/nfsd/threads"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "dev").symlink_to("/dev")
    told = {name: not value for name, value in nothing.items()}
    assert probe_mounts.kernel(str(tmp_path)) == {**told, "null_device": ""}
    (tmp_path / "dev").unlink()
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/null").write_text("thrown away")
    assert probe_mounts.kernel(str(tmp_path))["null_device"] == "a plain file of 11 bytes"


def test_files_that_stand_before_python_s_own_modules(tmp_path: Path) -> None:
    for name in ("json.py", "trainer.py", "test/__init__.py", "logging/__init__.py", "random/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    own = str(Path(os.__file__).parent)
    found = probe_python.shadows({"PYTHONPATH": f":{own}:/nowhere:{tmp_path}/"})
    assert found == [f"{tmp_path}/json.py", f"{tmp_path}/logging"]
    assert probe_python.shadows({}) == []


@pytest.mark.parametrize("path", sorted(NODE.rglob("*.py")), ids=lambda path: str(path.relative_to(NODE)))
def test_node_files_are_readable_to_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_a_link_that_breaks_within_a_message_leaves_nothing(tmp_path: Path) -> None:
    tool(tmp_path, "nvidia-smi", f"trap '' TERM; echo $$ > {tmp_path}/pid; exec sleep 300")
    path = f"{tmp_path}:{os.environ['PATH']}"
    with subprocess.Popen(
        ["/bin/sh", "-c", REMOTE_COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PATH": path},
    ) as child:
        assert child.stdin is not None
        child.stdin.write(pack("probe.main", {"timeout": 60}, PROBE) + b'{"do": "pi')
        child.stdin.flush()
        limit = time.monotonic() + 120
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < limit
            time.sleep(0.02)
        child.stdin.close()
        child.wait(120)
    pid = int((tmp_path / "pid").read_text())
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        (f"echo 'NCCL INFO x'; echo '{TOLD}{{\"ok\": true}}'; echo late", (True, None)),
        ("echo 'Traceback' >&2; echo 'Illegal instruction' >&2; exit 132", (False, "Illegal instruction")),
        ("kill -11 $$", (False, "killed by signal 11 while importing torch")),
        ("exec sleep 100", (False, "`import torch` did not end within 0.5 s")),
        ("while :; do :; done", (False, "`import torch` did not end within 0.5 s")),
        # However slow it is, it gets on.
        (
            f"for i in 1 2 3 4 5 6; do /bin/sleep 0.2; /bin/true; done; echo '{TOLD}{{\"ok\": true}}'",
            (True, None),
        ),
    ],
)
def test_however_an_import_ends_it_is_told(
    tmp_path: Path, script: str, answer: tuple[bool, str | None]
) -> None:
    tool(tmp_path, "python", script)
    order = {
        "python": str(tmp_path / "python"),
        "timeout": 0.5 if "100" in script or ":;" in script else 1.0 if "sleep" in script else 30,
    }
    files = {"e2e.program": "", "probe.torch_import": ""}
    found = import_torch(order, files, dict(os.environ))[0]["torch"]
    assert (found["ok"], found.get("error")) == answer


def test_the_bundle_answers_under_a_bare_python_and_ends_with_its_input() -> None:
    request = {"timeout": 60, "controller_python": sys.executable}
    with subprocess.Popen(
        ["/bin/sh", "-c", REMOTE_COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(pack("probe.main", request, PROBE))
        child.stdin.flush()
        answer = json.loads(child.stdout.readline().partition(MARK)[2])
        assert answer["facts"]["errors"] == []
        assert answer["facts"]["boot_id"]
        child.stdin.close()
        child.wait(120)

"""Faults made on real hosts, one on each: the probe reads them, and doctor names each on its host alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from clusterctl.sandbox import FileSpec, HostSpec, Sandbox
from clusterctl.sandbox.host import VirtualHost
from tests.integration.test_doctor_sandbox import doctor, fake_smi, problems

pytestmark = pytest.mark.sandbox


def _profile(text: str) -> Callable[[VirtualHost], None]:
    return lambda host: host.shell_profile(text)


def _tool(name: str, script: str) -> Callable[[VirtualHost], None]:
    return lambda host: host.install(f"/usr/bin/{name}", f"#!/bin/sh\n{script}\n", 0o755)


def _noexec(host: VirtualHost) -> None:
    host.admin(["mount", "--rbind", "/tmp", "/tmp"])
    host.admin(["mount", "-o", "remount,bind,noexec", "/tmp"])


def _accelerate(host: VirtualHost) -> None:
    path = host.home / ".cache/huggingface/accelerate/default_config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("machine_rank: 1\nmixed_precision: fp16\nnum_machines: 4\n")


def _half_of_the_memory(host: VirtualHost) -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    halved = [
        f"{name}: {int(rest.split()[0]) // 2} kB" for name, _, rest in (line.partition(":") for line in lines)
    ]
    host.install("/proc/meminfo", "\n".join(halved) + "\n")


def _file(path: str, text: str) -> Callable[[VirtualHost], None]:
    return lambda host: host.install(path, text)


OOM = "[99999999.500000] Out of memory: Killed process 991 (python3) total-vm:65G"

FAULTS: dict[str, tuple[str, Callable[[VirtualHost], None]]] = {
    "noexec": ("os.noexec", _noexec),
    "accelerate": ("sw.accelerate-config", _accelerate),
    "half": ("os.memory", _half_of_the_memory),
    "loaded": ("os.load", _file("/proc/loadavg", "900.00 900.00 900.00 9/999 4711\n")),
    "threads": ("os.nproc", _file("/sys/fs/cgroup/pids.max", "9\n")),
    "omp": ("sw.nccl-env", _profile("export OMP_NUM_THREADS=999\n")),
    "proxy": ("sw.proxy", _profile("export https_proxy=http://alice:secret@proxy:3128\n")),
    "complains": ("env.stderr", _profile(". /opt/site/setup.sh\n")),
    "slow": ("env.login-time", _profile("sleep 8\n")),
    "leaves": ("env.shell", _profile("exit 0\n")),
    "reboot": ("os.reboot", _file("/run/reboot-required", "*** System restart required ***\n")),
    "oom": ("os.oom", _tool("dmesg", f"echo '{OOM}'")),
    "nameless": ("name.own", _file("/etc/hosts", "127.0.0.1 localhost\n")),
}
"""Host -> the code it must get. What is alike on all of them is no fault here."""


def test_each_host_has_its_fault_and_no_other(make_sandbox: Callable[..., Sandbox]) -> None:
    box = make_sandbox(hosts=[HostSpec(name) for name in ("one", "two", *FAULTS)])
    for name, (_, spoil) in FAULTS.items():
        spoil(box.host(name))
    for name in ("json", "torch", "re"):  # modules of the user's at home are nobody's business
        box.host("one").install(str(box.host("one").home / f"{name}.py"), "raise SystemExit(3)\n")
    code, report = doctor(box, "--quick")
    expected = {code: {name} for name, (code, _) in FAULTS.items()}
    assert problems(report) == expected
    assert code == 1
    assert "secret" not in str(report)


CARDS: dict[str, tuple[str, dict[str, str]]] = {
    "reset": ("gpu.smi", {"memory.used": "[GPU requires reset]"}),
    "error": ("gpu.smi", {"utilization.gpu": "[Unknown Error]"}),
    "hot": ("gpu.throttle", {"clocks_throttle_reasons.active": "0x0000000000000040"}),
    "lanes": ("gpu.pcie", {"pcie.link.width.current": "8"}),
    "alone": ("gpu.compute-mode", {"compute_mode": "Exclusive_Process"}),
    "sleeps": ("gpu.persistence", {"persistence_mode": "Disabled"}),
    "row": ("gpu.remap", {"remapped_rows.pending": "Yes"}),
    "flips": ("gpu.ecc", {"ecc.errors.uncorrected.volatile.total": "3"}),
    "log": ("gpu.xid", {}),
}
"""Host -> the code it must get, and what nvidia-smi says of its second card."""


def test_each_sick_card_is_named_on_its_host(make_sandbox: Callable[..., Sandbox]) -> None:
    def equipped(name: str, spoiled: dict[str, str]) -> HostSpec:
        tool = FileSpec(fake_smi(name, 2, spoiled), 0o755)
        return HostSpec(name, slots=2, files={"/usr/bin/nvidia-smi": tool})

    healthy: dict[str, dict[str, str]] = {"one": {}, "two": {}, "three": {}}
    spoiled = {name: fields for name, (_, fields) in CARDS.items()}
    box = make_sandbox(hosts=[equipped(name, fields) for name, fields in (healthy | spoiled).items()])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    xid = f"[{uptime:.6f}] NVRM: Xid (PCI:0000:02:00): 79, pid=1, GPU has fallen off the bus."
    _tool("dmesg", f"echo '{xid}'")(box.host("log"))
    _, report = doctor(box, "--quick", "--only", "gpu", "--skip", "gpu.count=a fake has no bus")
    expected: dict[str, set[str]] = {}
    for name, (code, _) in CARDS.items():
        expected.setdefault(code, set()).add(name)
    assert problems(report) == expected


def test_an_import_of_torch_that_waits_for_its_files(make_sandbox: Callable[..., Sandbox]) -> None:
    import torch

    box = make_sandbox(hosts=[HostSpec(name) for name in ("one", "two", "slow")])
    version_file = Path(torch.__file__).with_name("version.py")
    text = version_file.read_text(encoding="utf-8")
    box.host("slow").install(str(version_file), f"import time; time.sleep(12)\n{text}")
    _, report = doctor(box)
    assert problems(report) == {"sw.import-time": {"slow"}}

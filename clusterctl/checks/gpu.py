"""The GPUs that the hosts show, as far as nvidia-smi and one import of torch tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from clusterctl.checks.consistency import deviations
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Skipped, Verdict
from clusterctl.facts.model import Facts, Gpu

SMI_SLOW = 5.0
MIB = 1024**2
GIB = 1024**3
BUSY_MEMORY = 2 * GIB
"""From here on a foreign process costs the run its memory; below, only some speed."""

_SMI_CODES = {
    4: ("no permission to talk to the driver", "add the user to the group that owns /dev/nvidia*"),
    8: ("a GPU has no external power", "check the power cables"),
    9: ("the NVIDIA driver is not loaded", "sudo modprobe nvidia; dmesg | grep -i nvrm"),
    10: ("the driver has an interrupt problem with a GPU", "reboot; then look at dmesg"),
    12: ("libnvidia-ml was not found", "reinstall the driver's user-space packages"),
    14: ("a GPU's InfoROM is corrupt", "have the card replaced"),
    15: ("a GPU has fallen off the bus", "reboot; if it comes back, reseat or replace the card"),
}
_DESKTOP = ("Xorg", "Xwayland", "gnome-shell", "kwin", "dcgm", "nv-hostengine", "nvidia-persistenced")


def _per_gpu_host(
    judge: Callable[[str, Facts], Iterator[Verdict]],
) -> Callable[[Evidence], Iterator[Verdict]]:
    """Asks the hosts whose nvidia-smi answered, and skips where there is no GPU at all."""

    def over(evidence: Evidence) -> Iterator[Verdict]:
        if not evidence.has_gpus:
            yield Skipped("no GPU on any host")
            return
        for host, facts in evidence.facts.items():
            if facts.nvidia.gpus:
                yield from judge(host, facts)
            elif facts.nvidia.present:
                yield Blocked(host, "nvidia-smi gave no answer")

    return over


def _smi(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.has_gpus:
        yield Skipped("no GPU on any host")
        return
    for host, facts in evidence.facts.items():
        smi = facts.nvidia
        if not smi.present and smi.devices:
            yield Hit(
                hosts=(host,),
                observed=f"{smi.devices} NVIDIA device(s) on the PCI bus, but no nvidia-smi",
                expected="the driver is installed",
                fix="install the NVIDIA driver, or add its bin directory to PATH",
            )
        elif smi.present and smi.exit_code:
            meaning, fix = _SMI_CODES.get(
                smi.exit_code, (smi.error or "see its output", "run nvidia-smi there")
            )
            yield Hit(hosts=(host,), observed=f"nvidia-smi exits {smi.exit_code}: {meaning}", fix=fix)


def _smi_hang(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.has_gpus:
        yield Skipped("no GPU on any host")
        return
    for host, facts in evidence.facts.items():
        smi = facts.nvidia
        if smi.present and smi.exit_code is None:
            yield Hit(hosts=(host,), observed="nvidia-smi did not end in time", severity="fail")
        elif smi.present and smi.seconds > SMI_SLOW:
            yield Hit(hosts=(host,), observed=f"nvidia-smi takes more than {SMI_SLOW:g} s", severity="warn")


def _lib_mismatch(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.has_gpus:
        yield Skipped("no GPU on any host")
        return
    for host, facts in evidence.facts.items():
        smi = facts.nvidia
        library = next((gpu.driver for gpu in smi.gpus if gpu.driver), "")
        if "version mismatch" in smi.error.lower():
            yield Hit(hosts=(host,), observed=f"kernel module {smi.kernel_driver or '?'}, another library")
        elif library and smi.kernel_driver and library != smi.kernel_driver:
            yield Hit(hosts=(host,), observed=f"kernel module {smi.kernel_driver}, library {library}")


def _count(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.has_gpus:
        if evidence.facts:
            yield Hit(
                hosts=tuple(evidence.facts),
                observed="no GPU found: a CPU cluster, where slots count processes and gloo carries the data",
                severity="info",
            )
        return
    for entry in evidence.inventory.hosts:
        if entry.name not in evidence.facts:
            continue
        smi = evidence.facts[entry.name].nvidia
        if smi.exit_code == 0 and smi.devices is not None and len(smi.gpus) < smi.devices:
            yield Hit(
                hosts=(entry.name,),
                observed=f"the driver shows {len(smi.gpus)} GPU(s)",
                expected=f"{smi.devices}, as on the PCI bus",
                # A container sees the whole bus and its own GPUs only: enough for its slots is enough.
                severity="info" if entry.declared_slots <= len(smi.gpus) else None,
            )


def _cuda(evidence: Evidence) -> Iterator[Verdict]:
    if evidence.quick:
        yield Skipped("not asked with --quick")
        return

    slots = {entry.name: entry.declared_slots for entry in evidence.inventory.hosts}

    def judge(host: str, facts: Facts) -> Iterator[Verdict]:
        if facts.torch is None or not facts.torch.ok:
            yield Blocked(host, "torch was not imported")
        elif facts.python.torch_cuda == "":
            yield Blocked(host, "torch is a CPU-only build")
        elif not facts.torch.cuda_available:
            yield Hit(hosts=(host,), observed="torch sees no GPU", expected=f"{len(facts.nvidia.gpus)}")
        elif facts.torch.device_count < min(len(facts.nvidia.gpus), slots[host]):
            yield Hit(
                hosts=(host,),
                observed=f"torch sees {facts.torch.device_count} GPU(s)",
                expected=f"{min(len(facts.nvidia.gpus), slots[host])}, as nvidia-smi and the hostfile",
            )

    yield from _per_gpu_host(judge)(evidence)


def _model(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.has_gpus:
        yield Skipped("no GPU on any host")
        return
    models = {
        host: " + ".join(dict.fromkeys(_model_of(gpu) for gpu in facts.nvidia.gpus))
        for host, facts in evidence.facts.items()
        if facts.nvidia.gpus
    }
    yield from deviations(models)


def _model_of(gpu: Gpu) -> str:
    return f"{gpu.name} ({gpu.memory_total / GIB:.0f} GiB)"


def _busy(host: str, facts: Facts) -> Iterator[Verdict]:
    for gpu in facts.nvidia.gpus:
        foreign = [
            process for process in gpu.processes if not any(name in process.command for name in _DESKTOP)
        ]
        for process in foreign:
            size = f"{process.memory / GIB:.1f} GiB" if process.memory is not None else "size unknown"
            whose = f"pid {process.pid} of {process.user}"
            heavy = process.memory is None or process.memory >= BUSY_MEMORY
            yield Hit(
                hosts=(host,),
                observed=f"GPU {gpu.index}: {whose}, {size}: {process.command[:50]}",
                expected="no foreign process",
                severity="fail" if heavy else "warn",
            )
        if not foreign and gpu.memory_used >= BUSY_MEMORY:
            yield Hit(
                hosts=(host,),
                observed=f"GPU {gpu.index}: {gpu.memory_used / GIB:.1f} GiB used by processes nobody shows",
                expected="free memory",
            )


def _compute_mode(host: str, facts: Facts) -> Iterator[Verdict]:
    modes = {gpu.compute_mode.strip() for gpu in facts.nvidia.gpus}
    if "Prohibited" in modes:
        yield Hit(hosts=(host,), observed="compute mode Prohibited", expected="Default")


def _mig(host: str, facts: Facts) -> Iterator[Verdict]:
    parted = [str(gpu.index) for gpu in facts.nvidia.gpus if gpu.mig_mode.strip() == "Enabled"]
    if parted:
        yield Hit(hosts=(host,), observed=f"MIG is on for GPU {', '.join(parted)}", expected="whole GPUs")


def _ecc(host: str, facts: Facts) -> Iterator[Verdict]:
    for gpu in facts.nvidia.gpus:
        if gpu.ecc_errors:
            yield Hit(hosts=(host,), observed=f"GPU {gpu.index}: {gpu.ecc_errors} uncorrected ECC errors")


def _devices_unknown(evidence: Evidence) -> Iterator[Verdict]:
    """A host with neither nvidia-smi nor a readable PCI bus cannot say that it has no GPU."""
    for host, facts in evidence.facts.items():
        if not facts.nvidia.present and facts.nvidia.devices is None and evidence.has_gpus:
            yield NotKnown(host, "neither nvidia-smi nor the PCI bus tells whether there is a GPU")


RULES: tuple[Rule, ...] = (
    Rule(
        code="gpu.smi",
        severity="fail",
        looks_at="nvidia-smi's exit code, and NVIDIA devices on the PCI bus without a driver",
        judge=_smi,
        symptom="“CUDA unknown error”, or no GPU at all, on this host",
    ),
    Rule(
        code="gpu.smi-hang",
        severity="fail",
        looks_at="how long nvidia-smi takes",
        judge=_smi_hang,
        symptom="the run hangs in CUDA's initialisation",
        fix="take the host out and reboot it; for mere slowness: sudo nvidia-smi -pm 1",
    ),
    Rule(
        code="gpu.lib-mismatch",
        severity="fail",
        looks_at="the driver's kernel module against its library",
        judge=_lib_mismatch,
        symptom="“Failed to initialize NVML: Driver/library version mismatch”, often after an upgrade",
        fix="sudo reboot (or unload and reload the nvidia modules); then hold the driver's packages",
    ),
    Rule(
        code="gpu.count",
        severity="fail",
        looks_at="GPUs the driver shows against those on the PCI bus",
        judge=_count,
        symptom="“invalid device ordinal”; a GPU may have fallen off the bus",
        fix="dmesg | grep -i xid; reboot; reseat the card",
    ),
    Rule(
        code="gpu.present",
        severity="fail",
        looks_at="whether a host without nvidia-smi can prove that it has no GPU",
        judge=_devices_unknown,
    ),
    Rule(
        code="gpu.cuda",
        severity="fail",
        looks_at="the GPUs that torch sees after a real import",
        judge=_cuda,
        symptom="ranks of this host die at their first CUDA call",
        fix="look for CUDA_VISIBLE_DEVICES, a container without --gpus, or a driver older than torch's CUDA",
    ),
    Rule(
        code="gpu.model",
        severity="warn",
        looks_at="GPU model and memory on all hosts",
        judge=_model,
        symptom="the smallest memory ends in out-of-memory first, and the slowest GPU sets the pace for all",
        fix="choose the batch for the smallest, or --exclude the odd host",
    ),
    Rule(
        code="gpu.busy",
        severity="fail",
        looks_at="foreign processes and used memory on every GPU",
        judge=_per_gpu_host(_busy),
        symptom="out of memory, or one slow rank that holds up the rest",
        fix="ask their owner to stop them, or --exclude the host",
    ),
    Rule(
        code="gpu.compute-mode",
        severity="fail",
        looks_at="the compute mode",
        judge=_per_gpu_host(_compute_mode),
        symptom="“all CUDA-capable devices are busy or unavailable”",
        fix="sudo nvidia-smi -c 0",
    ),
    Rule(
        code="gpu.mig",
        severity="warn",
        looks_at="MIG mode, where slots count whole GPUs",
        judge=_per_gpu_host(_mig),
        symptom="ranks and devices are counted differently, and NCCL takes a slice for a GPU",
        fix="sudo nvidia-smi -mig 0",
    ),
    Rule(
        code="gpu.ecc",
        severity="fail",
        looks_at="uncorrected ECC errors since the last boot",
        judge=_per_gpu_host(_ecc),
        symptom="wrong results, or Xid 48/94 in the middle of a run",
        fix="sudo nvidia-smi -r, or reboot; replace the card when they come back",
    ),
)

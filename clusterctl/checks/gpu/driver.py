"""NVIDIA's driver on each host: whether it answers, how soon, and how many cards it shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from clusterctl.checks.gpu.asked import NO_GPU, awaits_fabric, where_gpus
from clusterctl.checks.remedy import Fix, Remedy, install, shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Skipped, Verdict
from clusterctl.facts.model import Facts

SMI_SLOW = 5.0
_CLOSED = "device nodes are closed to the user"


def _look(pattern: str, advice: str) -> Remedy:
    return shell("sudo dmesg | grep -i {}", values=(pattern,), looks=True, advice=advice)


_SMI_CODES: dict[int, tuple[str, Fix]] = {
    4: ("no permission to talk to the driver", "add the user to the group that owns /dev/nvidia*"),
    6: ("it finds no device", _look("nvrm", "reboot, then reseat the card")),
    8: ("a GPU has no external power", "check the power cables"),
    9: (
        "the NVIDIA driver is not loaded",
        shell("sudo modprobe nvidia", instead=("see what it says: sudo dmesg | grep -i nvrm",)),
    ),
    10: (
        "the driver has an interrupt problem with a GPU",
        shell("sudo reboot", reboots=True, advice="look at dmesg when it comes back"),
    ),
    12: ("libnvidia-ml was not found", "reinstall the driver's user-space packages"),
    14: ("a GPU's InfoROM is corrupt", "have the card replaced"),
    15: (
        "a GPU has fallen off the bus",
        shell("sudo reboot", reboots=True, advice="reseat or replace the card when it falls off again"),
    ),
}


def _smi(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        smi = facts.nvidia
        if "version mismatch" in smi.error.lower():
            yield Blocked(host, "the driver's halves do not fit together")
        elif not smi.present and smi.devices:
            yield _without_driver(host, facts)
        elif smi.present and smi.exit_code and smi.closed:
            yield Blocked(host, _CLOSED)
        elif smi.present and smi.exit_code:
            meaning, fix = _SMI_CODES.get(
                smi.exit_code, (smi.error or "see its output", "run nvidia-smi there")
            )
            yield Hit(hosts=(host,), observed=f"nvidia-smi exits {smi.exit_code}: {meaning}", fix=fix)
        elif smi.exit_code == 0 and smi.error:
            yield Hit(
                hosts=(host,),
                observed=f"nvidia-smi told {smi.error}",
                expected="a line for each card",
                fix=shell("nvidia-smi", looks=True, advice="see why it does not tell its cards"),
                cause="not to be read",
            )
        else:
            yield from _refused_figures(evidence, host)


def _without_driver(host: str, facts: Facts) -> Hit:
    smi = facts.nvidia
    if "nouveau" in smi.bound:
        return Hit(
            hosts=(host,),
            observed=f"{smi.devices} NVIDIA device(s) run with nouveau, which has no CUDA",
            expected="NVIDIA's own driver",
            fix=install(facts.os_release, apt="nvidia-driver", dnf="nvidia-driver"),
        )
    return Hit(
        hosts=(host,),
        observed=f"{smi.devices} NVIDIA device(s) on the PCI bus, but no nvidia-smi",
        expected="the driver is installed",
        fix="install the NVIDIA driver, or add its bin directory to PATH",
    )


def _refused_figures(evidence: Evidence, host: str) -> Iterator[Verdict]:
    """nvidia-smi ends with 0 and writes ``[GPU requires reset]`` where a figure should be."""
    for card in evidence.cards(host):
        if card.faults:
            resets = any("reset" in fault.lower() for fault in card.faults)
            yield Hit(
                hosts=(host,),
                observed=f"GPU {card.index}: nvidia-smi says {card.faults[0]}",
                expected="figures",
                fix=shell("sudo nvidia-smi -r -i {}", values=(card.index,))
                if resets
                else shell("sudo reboot", reboots=True),
                cause=f"refused {card.faults[0].partition(': ')[2]}",
            )


def _smi_hang(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        smi = facts.nvidia
        if smi.present and smi.exit_code is None:
            yield Hit(
                hosts=(host,),
                observed="nvidia-smi did not end in time",
                severity="fail",
                fix=shell("sudo reboot", reboots=True),
            )
        elif smi.present and smi.seconds > SMI_SLOW:
            yield Hit(
                hosts=(host,),
                observed=f"nvidia-smi takes more than {SMI_SLOW:g} s",
                severity="warn",
                fix=shell("sudo nvidia-smi -pm 1", until_boot=True),
            )


def _lib_mismatch(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        smi = facts.nvidia
        library = next((gpu.driver for gpu in smi.gpus if gpu.driver), "")
        if "version mismatch" in smi.error.lower():
            yield Hit(hosts=(host,), observed=f"kernel module {smi.kernel_driver or '?'}, another library")
        elif library and smi.kernel_driver and library != smi.kernel_driver:
            yield Hit(hosts=(host,), observed=f"kernel module {smi.kernel_driver}, library {library}")


def _count(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.has_gpus:
        yield from _without_gpus(evidence)
        return
    for entry in evidence.inventory.hosts:
        if entry.name not in evidence.facts:
            continue
        smi = evidence.facts[entry.name].nvidia
        if smi.error:
            yield Blocked(entry.name, "nvidia-smi gave no answer")
        elif smi.exit_code == 0 and smi.devices is not None and len(smi.gpus) < smi.devices:
            yield Hit(
                hosts=(entry.name,),
                observed=f"the driver shows {len(smi.gpus)} GPU(s)",
                expected=f"{smi.devices}, as on the PCI bus",
                # A container sees the whole bus and its own GPUs only: enough for its slots is enough.
                severity="info" if entry.declared_slots <= len(smi.gpus) else None,
            )
    yield from _fewer_than_the_others(evidence)


def _without_gpus(evidence: Evidence) -> Iterator[Verdict]:
    plain = []
    for host, facts in evidence.facts.items():
        smi = facts.nvidia
        taken = [driver for driver in smi.bound if driver]
        if smi.amd:
            what = f"{smi.amd} AMD GPU(s): doctor knows NVIDIA's only, and leaves them to you"
        elif smi.soc:
            what = (
                f"{smi.soc}, whose GPU nvidia-smi does not tell of: a run there is what its torch makes of it"
            )
        elif smi.devices and taken:
            what = f"{smi.devices} NVIDIA card(s) under {taken[0]}, without CUDA: counted as a CPU host"
        else:
            plain.append(host)
            continue
        yield Hit(hosts=(host,), observed=what, severity="info")
    if plain:
        yield Hit(
            hosts=tuple(plain),
            observed="no GPU found: a CPU cluster, where slots count processes and gloo carries the data",
            severity="info",
        )


def _fewer_than_the_others(evidence: Evidence) -> Iterator[Verdict]:
    """A card that is gone from the bus is missing nowhere but beside the other hosts.

    Only where the hosts are used alike: who counts slots by each host's own cards knows what is there.
    """
    counts = {host: len(facts.nvidia.gpus) for host, facts in evidence.facts.items() if facts.nvidia.gpus}
    slots = {entry.name: entry.declared_slots for entry in evidence.inventory.hosts}
    ranked = Counter(counts.values()).most_common(1)
    if not ranked or ranked[0][1] * 2 <= len(counts):
        return
    usual, bearers = ranked[0]
    used = {slots[host] for host, count in counts.items() if count == usual}
    for host, count in counts.items():
        if count == usual - 1 and used == {slots[host]} and slots[host] < count:
            yield Hit(
                hosts=(host,),
                observed=f"{count} GPUs",
                expected=f"{usual}, as on {bearers} of {len(counts)} hosts",
                severity="warn",
            )


def _cuda(evidence: Evidence) -> Iterator[Verdict]:
    if evidence.quick:
        yield Skipped("not asked with --quick")
        return
    if not evidence.has_gpus:
        yield Skipped(NO_GPU)
        return
    for entry in evidence.inventory.hosts:
        facts = evidence.facts.get(entry.name)
        if facts is not None and facts.nvidia.gpus:
            yield from _in_torch(entry.name, entry.declared_slots, facts)
        elif facts is not None and facts.nvidia.present:
            yield Blocked(entry.name, "nvidia-smi gave no answer")


def _in_torch(host: str, slots: int, facts: Facts) -> Iterator[Verdict]:
    wanted = min(len(facts.nvidia.gpus), slots)
    hidden = next((each for each in facts.variables if each.name == "CUDA_VISIBLE_DEVICES"), None)
    if facts.torch is None or not facts.torch.ok:
        yield Blocked(host, "torch was not imported")
        return
    if facts.python.torch_cuda == "":
        yield Blocked(host, "torch is a build without CUDA")
        return
    seen = facts.torch.device_count if facts.torch.cuda_available else 0
    if facts.torch.cuda_available and seen >= wanted:
        return
    if hidden is not None and _shown(hidden.value, facts) <= seen:
        yield Blocked(host, f"CUDA_VISIBLE_DEVICES={hidden.value} hides GPUs")
    elif not seen and facts.nvidia.closed:
        yield Blocked(host, _CLOSED)
    elif not seen and any(awaits_fabric(card) for card in facts.nvidia.gpus):
        yield Blocked(host, "the cards have not joined their NVSwitch fabric: gpu.fabric")
    elif not seen:
        yield Hit(hosts=(host,), observed="torch sees no GPU", expected=f"{len(facts.nvidia.gpus)}")
    else:
        yield Hit(
            hosts=(host,),
            observed=f"torch sees {seen} GPU(s)",
            expected=f"{wanted}, as nvidia-smi and the hostfile",
        )


def _shown(visible: str, facts: Facts) -> int:
    """How many cards CUDA_VISIBLE_DEVICES leaves: up to the first name that is none of a card's."""
    names = [name.strip() for name in visible.split(",")]
    count = 0
    for name in names:
        if not name or not any(
            str(card.index) == name or card.uuid.startswith(name) for card in facts.nvidia.gpus
        ):
            break
        count += 1
    return count


def _devices_unknown(evidence: Evidence) -> Iterator[Verdict]:
    """A host with neither nvidia-smi nor a readable PCI bus cannot say that it has no GPU."""
    for host, facts in evidence.facts.items():
        if not facts.nvidia.present and facts.nvidia.devices is None and evidence.has_gpus:
            yield NotKnown(host, "neither nvidia-smi nor the PCI bus tells whether there is a GPU")


RULES: tuple[Rule, ...] = (
    Rule(
        code="gpu.smi",
        severity="fail",
        looks_at="nvidia-smi's exit code, figures it refuses, and NVIDIA devices without a driver",
        judge=where_gpus(_smi),
        needs=("gpus",),
        symptom="“CUDA unknown error”, or no GPU at all, on this host",
    ),
    Rule(
        code="gpu.smi-hang",
        severity="fail",
        looks_at="how long nvidia-smi takes",
        judge=where_gpus(_smi_hang),
        needs=("gpus",),
        symptom="the run hangs in CUDA's initialisation",
        fix="take the host out and reboot it; where it is merely slow, switch persistence mode on",
    ),
    Rule(
        code="gpu.lib-mismatch",
        severity="fail",
        looks_at="the driver's kernel module against its library",
        judge=where_gpus(_lib_mismatch),
        needs=("gpus",),
        symptom="“Failed to initialize NVML: Driver/library version mismatch”, often after an upgrade",
        fix=shell("sudo reboot", reboots=True, advice="hold the driver's packages at their version"),
    ),
    Rule(
        code="gpu.count",
        severity="fail",
        looks_at="GPUs the driver shows against those on the PCI bus and on the other hosts",
        judge=_count,
        needs=("gpus",),
        symptom="“invalid device ordinal”; a GPU may have fallen off the bus",
        fix=_look("xid", "reboot, then reseat the card"),
    ),
    Rule(
        code="gpu.present",
        severity="fail",
        looks_at="whether a host without nvidia-smi can prove that it has no GPU",
        judge=_devices_unknown,
        needs=("gpus",),
    ),
    Rule(
        code="gpu.cuda",
        severity="fail",
        looks_at="the GPUs that torch sees after a real import",
        judge=_cuda,
        needs=("gpus", "python"),
        symptom="ranks of this host die at their first CUDA call",
        fix="look for a container without --gpus, or a driver older than torch's CUDA",
    ),
)

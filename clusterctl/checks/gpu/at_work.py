"""Idle GPUs at work: whether they compute right, how fast against the others, and NVIDIA's own diagnosis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from statistics import median

from clusterctl.checks.gpu.asked import NO_GPU
from clusterctl.checks.remedy import shell
from clusterctl.checks.rule import Evidence, Hit, Judge, NotKnown, Rule, Skipped, Verdict
from clusterctl.facts.e2e import Device

ENOUGH = 3
"""Cards of one model that a median needs."""
WARN, FAIL = 0.9, 0.7


def thorough(judge: Callable[[Evidence], Iterator[Verdict]]) -> Judge:
    """Skips what was not asked for, and clusters whose GPUs are all at work already."""

    def over(evidence: Evidence) -> Iterator[Verdict]:
        if not evidence.has_gpus:
            yield Skipped(NO_GPU)
        elif evidence.proof.bandwidth is None:
            yield Skipped("asked with --thorough, of idle GPUs")
        elif not evidence.proof.devices:
            yield Skipped("no GPU is idle")
        else:
            yield from judge(evidence)

    return over


def _smoke(evidence: Evidence) -> Iterator[Verdict]:
    for device in _of_hosts(evidence):
        where = card(evidence, device)
        if device.unknown:
            yield NotKnown(device.host, f"{where}: {device.unknown}")
        elif device.error or device.ended:
            yield Hit(
                hosts=(device.host,),
                observed=f"{where}: {(device.error or device.ended).strip().splitlines()[0][:240]}",
                expected="a product of two matrices",
                cause=device.error or device.ended,
            )


def _gemm(evidence: Evidence) -> Iterator[Verdict]:
    alike: defaultdict[str, list[Device]] = defaultdict(list)
    for device in _of_hosts(evidence):
        if device.flops:
            alike[model(evidence, device)].append(device)
    compared = False
    for name, devices in alike.items():
        usual = median(device.flops for device in devices)
        if len(devices) < ENOUGH:
            continue
        compared = True
        for device in devices:
            if device.flops < usual * WARN:
                yield Hit(
                    hosts=(device.host,),
                    observed=f"{card(evidence, device)}: {device.flops / 1e12:.3g} TFLOP/s",
                    expected=f"{usual / 1e12:.3g}, the median of {len(devices)} {name}",
                    severity="fail" if device.flops < usual * FAIL else "warn",
                    cause=f"slow {name}",
                )
    if not compared:
        yield Skipped(f"fewer than {ENOUGH} idle GPUs of one model")


def _dcgm(evidence: Evidence) -> Iterator[Verdict]:
    found = {host: told for host, told in evidence.proof.dcgm.items() if host in evidence.facts}
    if not any(told.present for told in found.values()):
        yield Skipped("dcgmi is on no host")
        return
    for host, told in found.items():
        if told.present and told.error:
            yield NotKnown(host, told.error)
        for each in told.failed:
            where = f"GPU {each.gpu}: " if each.gpu is not None else ""
            yield Hit(
                hosts=(host,),
                observed=f"{where}{each.test}: {each.text}",
                expected="pass",
                severity="warn" if each.configuration else "fail",
                cause=f"{each.test}: {each.text}",
            )


def _of_hosts(evidence: Evidence) -> Iterator[Device]:
    return (device for device in evidence.proof.devices if device.host in evidence.facts)


def card(evidence: Evidence, device: Device) -> str:
    """``GPU 3``: as nvidia-smi counts, where torch counts the selected slots."""
    kind, _, position = device.device.partition(":")
    slots = next((each.slots for each in evidence.inventory.hosts if each.name == device.host), ())
    if kind == "cuda" and position.isdecimal() and int(position) < len(slots):
        return f"GPU {slots[int(position)]}"
    return device.device


def model(evidence: Evidence, device: Device) -> str:
    index = card(evidence, device).partition("GPU ")[2]
    cards = evidence.facts[device.host].nvidia.gpus
    return next((each.name for each in cards if str(each.index) == index), device.device.partition(":")[0])


RULES: tuple[Rule, ...] = (
    Rule(
        code="gpu.cuda-smoke",
        severity="fail",
        looks_at="a small product of matrices on each idle GPU, each in a process of its own",
        judge=thorough(_smoke),
        symptom="the first step of a run hangs or fails",
        fix=shell("nvidia-smi -q -d ECC,PAGE_RETIREMENT", "journalctl -k --grep=Xid", looks=True),
    ),
    Rule(
        code="gpu.gemm",
        severity="warn",
        looks_at="how fast each idle GPU multiplies, against the median of its model over all hosts",
        judge=thorough(_gemm),
        symptom="the whole run is as slow as this card",
        fix=shell("nvidia-smi -q -d PERFORMANCE,CLOCK,POWER,TEMPERATURE", looks=True),
    ),
    Rule(
        code="gpu.dcgm",
        severity="fail",
        looks_at="dcgmi diag -r 1 where it is installed, on hosts with idle GPUs",
        judge=thorough(_dcgm),
        symptom="a fault of the hardware that shows only in a run",
        fix=shell("dcgmi diag -r 2", looks=True),
    ),
)

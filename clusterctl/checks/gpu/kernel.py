"""What the kernel knows of the cards, as far as the user may read it."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.checks.finding import Severity
from clusterctl.checks.gpu.asked import where_gpus
from clusterctl.checks.remedy import Fix, shell
from clusterctl.checks.rule import Evidence, Hit, Rule, Skipped, Verdict, never_asked

DAY = 86400.0
LATELY = 7200.0
"""What is older may have been cured by a reset since: it is told, and stops nobody."""

_REBOOT, _RESET = shell("sudo reboot", reboots=True), shell("sudo nvidia-smi -r")
_XIDS: dict[int, tuple[Severity, Fix]] = {
    **dict.fromkeys((74, 79), ("fail", _REBOOT)),
    **dict.fromkeys((48, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158), ("fail", _RESET)),
    **dict.fromkeys((54, 64), ("fail", "have the card looked at, and --exclude the host")),
    94: ("warn", "restart what ran on the card, and reset the card when it comes back"),
}
"""What NVIDIA's Xid catalogue asks for. 13 and 31 are mostly a program's own fault, 43, 45, 63 and 92 ask
for nothing: they are left alone."""


def _xid(evidence: Evidence) -> Iterator[Verdict]:
    logs = {host: facts.kernel_log for host, facts in evidence.facts.items()}
    readable = [host for host, log in logs.items() if log is not None and not log.error]
    if not readable:
        why = next((log.error for log in logs.values() if log is not None and log.error), "not asked")
        yield Skipped(f"the kernel log cannot be read: {why}")
        return
    for host in readable:
        log = logs[host]
        for fault in log.switch_faults if log else ():
            if fault.age < DAY:
                yield Hit(
                    hosts=(host,),
                    observed=f"fatal SXid {fault.code} of an NVSwitch: {fault.text}"[:160],
                    fix=_REBOOT,
                    cause=f"sxid {fault.code}",
                )
        for xid in log.xids if log else ():
            if xid.code in _XIDS and xid.age < DAY and not _is_unselected(evidence, host, xid.device):
                severity, fix = _XIDS[xid.code]
                lately = xid.age < LATELY
                yield Hit(
                    hosts=(host,),
                    observed=f"Xid {xid.code} on {xid.device}{f': {xid.text}' if xid.text else ''}"[:160],
                    severity=severity if lately else "warn",
                    fix=fix,
                    cause=f"xid {xid.code}",
                )


def _is_unselected(evidence: Evidence, host: str, device: str) -> bool:
    """A card that the driver shows outside the selected slots; one that is gone may have been in them."""
    selected = {card.index for card in evidence.cards(host)}
    return any(
        card.bus.lower().endswith(f"{device.lower()}.0") and card.index not in selected
        for card in evidence.facts[host].nvidia.gpus
    )


RULES: tuple[Rule, ...] = (
    Rule(
        code="gpu.xid",
        severity="fail",
        looks_at="Xid and fatal SXid lines of the last day in the kernel log, where the user may read it",
        judge=where_gpus(_xid),
        needs=("gpus", "kernel log"),
        symptom="the next CUDA call on the card fails, or NCCL's watchdog ends the run",
    ),
    Rule(
        code="gpu.acs",
        severity="warn",
        looks_at="PCIe access control between the cards",
        judge=never_asked("only root may read it: sudo lspci -vvv | grep ACSCtl"),
        symptom="a hang with the GPUs at 100 %, or a fraction of the bandwidth between them",
    ),
)

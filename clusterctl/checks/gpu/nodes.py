"""Device nodes that the user may not open, and processes that hold a card and do not end."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.checks.gpu.asked import where_gpus
from clusterctl.checks.remedy import Remedy, account, path, shell
from clusterctl.checks.rule import Evidence, Hit, Rule, Verdict
from clusterctl.facts.gpu import DeviceNode
from clusterctl.facts.model import Facts

_OF_NOBODY = ("", "root")


def _closed(evidence: Evidence) -> Iterator[Verdict]:
    """Nodes of cards outside the selected slots are closed on purpose, as containers and schedulers do: what
    counts is how many are left."""
    slots = {entry.name: len(entry.slots) for entry in evidence.inventory.hosts}
    for host, facts in evidence.facts.items():
        closed = facts.nvidia.closed
        cards = [node for node in closed if node.path.rpartition("nvidia")[2].isdigit()]
        is_short = facts.nvidia.nodes - len(cards) < slots.get(host, 0)
        nodes = [node for node in closed if node not in cards or is_short]
        if nodes:
            names = ", ".join(node.path for node in nodes[:3])
            more = f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
            yield Hit(
                hosts=(host,),
                observed=f"{facts.user} may not open {names}{more}",
                expected="read and write",
                fix=_opened(facts, nodes),
                cause="closed",
            )


def _opened(facts: Facts, nodes: list[DeviceNode]) -> Remedy:
    group = next((node.group for node in nodes if node.group not in _OF_NOBODY), "")
    if group:
        return shell(
            "sudo usermod -aG {} {}",
            values=(account(group), account(facts.user)),
            advice="log in again: close shared SSH connections first",
        )
    return shell(
        "sudo chmod 666" + " {}" * len(nodes),
        values=tuple(path(node.path) for node in nodes),
        until_boot=True,
    )


def _stuck(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        for process in facts.nvidia.stuck:
            how = "is a zombie" if process.state == "zombie" else "was killed and does not end"
            yield Hit(
                hosts=(host,),
                observed=f"pid {process.pid} of {process.user} holds a GPU and {how}: {process.command[:50]}",
                expected="no process that cannot be ended",
                fix=shell("sudo reboot", reboots=True),
                cause=process.state,
            )


RULES: tuple[Rule, ...] = (
    Rule(
        code="gpu.devnodes",
        severity="fail",
        looks_at="whether the user may open /dev/nvidia*",
        judge=where_gpus(_closed),
        needs=("gpus", "system"),
        symptom="“no CUDA-capable device is detected” for this user, while root sees the cards",
    ),
    Rule(
        code="gpu.zombie",
        severity="fail",
        looks_at="processes on the cards that were killed and do not end",
        judge=where_gpus(_stuck),
        needs=("gpus",),
        symptom="the card's memory is never given back, and the next process hangs in the driver as well",
    ),
)

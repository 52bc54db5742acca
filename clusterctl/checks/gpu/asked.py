"""Rules about GPUs ask only where there are any, and only of hosts whose driver answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from clusterctl.checks.rule import Blocked, Evidence, Judge, Skipped, Verdict
from clusterctl.facts.gpu import Gpu

NO_GPU = "no GPU on any host"


def where_gpus(judge: Judge) -> Judge:
    """Skips a cluster without GPUs."""

    def over(evidence: Evidence) -> Iterator[Verdict]:
        if evidence.has_gpus:
            yield from judge(evidence)
        else:
            yield Skipped(NO_GPU)

    return over


def of_cards(judge: Callable[[str, tuple[Gpu, ...]], Iterator[Verdict]]) -> Judge:
    """Asks each host about the cards of its selected slots, where its driver answered."""

    def over(evidence: Evidence) -> Iterator[Verdict]:
        for host, facts in evidence.facts.items():
            if facts.nvidia.gpus:
                yield from judge(host, evidence.cards(host))
            elif facts.nvidia.present:
                yield Blocked(host, "nvidia-smi gave no answer")

    return where_gpus(over)


def awaits_fabric(card: Gpu) -> bool:
    """Whether the card sits behind NVSwitches and has not joined their fabric."""
    return card.fabric not in ("", "Completed")


def numbers(cards: tuple[Gpu, ...]) -> str:
    """``GPU 3``, ``GPUs 0-7``, ``GPUs 0, 2``."""
    found = sorted(card.index for card in cards)
    if len(found) == 1:
        return f"GPU {found[0]}"
    if found == list(range(found[0], found[-1] + 1)) and len(found) > 2:
        return f"GPUs {found[0]}-{found[-1]}"
    return f"GPUs {', '.join(map(str, found))}"

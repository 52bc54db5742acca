"""What somebody has set on the cards of the selected slots: power, clocks, error correction, persistence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from clusterctl.checks.gpu.asked import numbers, where_gpus
from clusterctl.checks.remedy import shell
from clusterctl.checks.rule import Evidence, Hit, Rule, Skipped, Verdict
from clusterctl.facts.gpu import Gpu

POWER_LESS = 0.8
"""Boards of one model by several makers differ by a tenth or so."""
CLOCK_LESS = 0.9


def _power(evidence: Evidence) -> Iterator[Verdict]:
    """Less power than most cards of the kind may draw: a limit that somebody left on some of them."""
    by_model: defaultdict[str, list[tuple[str, Gpu, float]]] = defaultdict(list)
    for host in evidence.facts:
        for card in evidence.cards(host):
            if card.power_limit:
                by_model[card.name].append((host, card, card.power_limit))
    for cards in by_model.values():
        usual, count = Counter(limit for _, _, limit in cards).most_common(1)[0]
        for host, card, limit in cards:
            if limit < POWER_LESS * usual and count * 2 > len(cards):
                yield Hit(
                    hosts=(host,),
                    observed=f"GPU {card.index} may draw {limit:g} W",
                    expected=f"{usual:g} W, as most of its kind",
                    fix=shell(
                        "sudo nvidia-smi -i {} -pl {}", values=(card.index, f"{usual:g}"), until_boot=True
                    ),
                    cause=f"{limit:g} of {usual:g}",
                )


def _clocks(evidence: Evidence) -> Iterator[Verdict]:
    """An application clock that somebody has set lower on some cards of a kind."""
    by_model: defaultdict[str, list[tuple[str, Gpu, int]]] = defaultdict(list)
    for host in evidence.facts:
        for card in evidence.cards(host):
            if card.clock_limit:
                by_model[card.name].append((host, card, card.clock_limit))
    if not by_model:
        yield Skipped("no card tells of application clocks")
    for cards in by_model.values():
        usual, count = Counter(limit for _, _, limit in cards).most_common(1)[0]
        for host, card, limit in cards:
            if limit < CLOCK_LESS * usual and count * 2 > len(cards):
                yield Hit(
                    hosts=(host,),
                    observed=f"GPU {card.index} is limited to {limit} MHz",
                    expected=f"{usual} MHz, as most of its kind",
                    fix=shell("sudo nvidia-smi -i {} -rac", values=(card.index,)),
                    cause=f"{limit} of {usual}",
                )


def _ecc_mode(evidence: Evidence) -> Iterator[Verdict]:
    """Off where most cards of the kind have it on; alike everywhere it is somebody's choice."""
    by_model: defaultdict[str, list[tuple[str, Gpu]]] = defaultdict(list)
    for host in evidence.facts:
        for card in evidence.cards(host):
            if card.ecc_mode in ("Enabled", "Disabled"):
                by_model[card.name].append((host, card))
    for cards in by_model.values():
        off = [(host, card) for host, card in cards if card.ecc_mode == "Disabled"]
        for host in dict.fromkeys(host for host, _ in off if len(off) * 2 < len(cards)):
            own = tuple(card for bearer, card in off if bearer == host)
            yield Hit(
                hosts=(host,),
                observed=f"{numbers(own)} without error correction",
                expected="ECC on, as on most of its kind",
                cause="off",
            )


def _persistence(evidence: Evidence) -> Iterator[Verdict]:
    modes = {
        host: {card.persistence for card in evidence.cards(host) if card.persistence}
        for host in evidence.facts
    }
    off = tuple(host for host, found in modes.items() if "Disabled" in found)
    on = [host for host, found in modes.items() if found == {"Enabled"}]
    if off:
        yield Hit(
            hosts=off,
            observed="persistence mode is off",
            expected=f"on, as on {len(on)} other host(s)" if on else "",
            severity="warn" if on else "info",
        )


RULES: tuple[Rule, ...] = (
    Rule(
        code="gpu.power",
        severity="warn",
        looks_at="the power limit of each card against its like",
        judge=where_gpus(_power),
        needs=("gpus",),
        symptom="one slow rank sets the pace for all",
    ),
    Rule(
        code="gpu.clocks",
        severity="warn",
        looks_at="the application clock of each card against its like",
        judge=where_gpus(_clocks),
        needs=("gpus",),
        symptom="one slow rank sets the pace for all",
    ),
    Rule(
        code="gpu.ecc-mode",
        severity="warn",
        looks_at="error correction that is off where most cards of the kind have it on",
        judge=where_gpus(_ecc_mode),
        needs=("gpus",),
        symptom="a flipped bit in memory goes unnoticed into the weights",
        fix=shell("sudo nvidia-smi -e 1", "sudo reboot", reboots=True),
    ),
    Rule(
        code="gpu.persistence",
        severity="warn",
        looks_at="persistence mode, where other hosts have it on",
        judge=where_gpus(_persistence),
        needs=("gpus",),
        symptom="every start waits seconds for the driver to load",
        fix=shell("sudo nvidia-smi -pm 1", until_boot=True),
    ),
)

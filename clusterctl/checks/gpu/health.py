"""How the cards of the selected slots are: memory, clocks, links."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from clusterctl.checks.consistency import middle_of_others
from clusterctl.checks.gpu.asked import awaits_fabric, numbers, of_cards, where_gpus
from clusterctl.checks.remedy import shell
from clusterctl.checks.rule import Evidence, Hit, Rule, Skipped, Verdict
from clusterctl.facts.gpu import Gpu

MANY_ERRORS = 100

_BRIDGED = ("GeForce", "RTX", "TITAN", "Quadro", "PCI", "NVL", "A40", "A30", "A10")
"""Cards that have NVLink by a bridge, if somebody has bought one."""

_SLOWED = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
"""NVML's clocks event reasons that are a fault; idle, caps and application clocks are not."""


def _ecc(host: str, cards: tuple[Gpu, ...]) -> Iterator[Verdict]:
    for card in cards:
        if card.ecc_errors:
            yield Hit(
                hosts=(host,),
                observed=f"GPU {card.index}: {card.ecc_errors} uncorrected ECC errors",
                cause="ecc",
            )


def _remap(host: str, cards: tuple[Gpu, ...]) -> Iterator[Verdict]:
    failed = tuple(card for card in cards if card.remap_failed)
    pending = tuple(card for card in cards if card.remap_pending and not card.remap_failed)
    if failed:
        yield Hit(
            hosts=(host,),
            observed=f"{numbers(failed)}: a broken memory row could not be replaced",
            fix="have the card replaced, and --exclude the host until then",
            cause="failed",
        )
    if pending:
        yield Hit(
            hosts=(host,), observed=f"{numbers(pending)}: a memory row waits to be replaced", cause="pending"
        )


def _slowed_by(reasons: int) -> int:
    """Without the bit that heat and power set beside their own."""
    return reasons & ~0x08 if reasons & (0x40 | 0x80) else reasons


def _throttle(host: str, cards: tuple[Gpu, ...]) -> Iterator[Verdict]:
    for bit, why in _SLOWED.items():
        slowed = tuple(card for card in cards if _slowed_by(card.throttle or 0) & bit)
        if slowed:
            yield Hit(
                hosts=(host,),
                observed=f"{numbers(slowed)}: clocks held down by {why}",
                expected="full clocks",
                cause=why,
            )


def _pcie(evidence: Evidence) -> Iterator[Verdict]:
    """Half the lanes are a board's design where every host has them in that place, and else a fault."""
    cards = {
        host: tuple(card for card in evidence.cards(host) if card.pcie_width and card.pcie_width_max)
        for host in evidence.facts
    }
    in_place: defaultdict[tuple[str, int], int] = defaultdict(int)
    for own in cards.values():
        for card in own:
            place = (card.name, card.index)
            in_place[place] = max(in_place[place], card.pcie_width or 0)
    for host, own in cards.items():
        for card in own:
            width, most = card.pcie_width or 0, card.pcie_width_max or 0
            wanted = max(in_place[card.name, card.index], _usual_lanes(own, card.name))
            if width < wanted:
                yield Hit(
                    hosts=(host,),
                    observed=f"GPU {card.index} has {width} of its {most} PCIe lanes",
                    expected=f"{wanted}, as its like",
                    cause=f"{width} of {wanted}",
                )
            elif width < most:
                yield Hit(
                    hosts=(host,),
                    observed=f"GPU {card.index} has {width} of {most} PCIe lanes",
                    severity="info",
                    cause="by design",
                )


def _usual_lanes(cards: tuple[Gpu, ...], name: str) -> int:
    """What most cards of that name in one host have; 0 where there is no such number."""
    widths = [card.pcie_width or 0 for card in cards if card.name == name]
    usual, count = Counter(widths).most_common(1)[0]
    return usual if count >= 2 and count * 2 > len(widths) else 0


def _nvlinks(evidence: Evidence) -> Iterator[Verdict]:
    yield from _nvlink(evidence)
    yield from _nvlink_errors(evidence)


def _nvlink(evidence: Evidence) -> Iterator[Verdict]:
    """Cards without a bridge have no active link at all: a fault is a card with fewer than its like."""
    by_model: defaultdict[str, list[tuple[str, Gpu, int, int]]] = defaultdict(list)
    for host in evidence.facts:
        for card in evidence.cards(host):
            if card.nvlinks is not None:
                by_model[card.name].append((host, card, *card.nvlinks))
    if not by_model:
        yield Skipped("no card tells of NVLink")
    for cards in by_model.values():
        most = max(active for _, _, active, _ in cards)
        for host, card, active, dead in cards:
            bridge = not active and any(word in card.name for word in _BRIDGED)
            if active < most and dead and bridge:
                yield Hit(
                    hosts=(host,),
                    observed=f"GPU {card.index} has no NVLink bridge, or one that does not work",
                    expected=f"{most} links up, as on its like",
                    severity="warn",
                    fix="put the bridge on, or accept PCIe between the cards of this host",
                    cause="no bridge",
                )
            elif active < most and dead:
                yield Hit(
                    hosts=(host,),
                    observed=f"GPU {card.index}: {dead} of {active + dead} NVLinks are down",
                    expected=f"{most} up, as on its like",
                    cause="down",
                )


def _nvlink_errors(evidence: Evidence) -> Iterator[Verdict]:
    """Since the driver was loaded, which nobody knows: only against the like."""
    by_model: defaultdict[str, dict[str, tuple[str, Gpu]]] = defaultdict(dict)
    for host in evidence.facts:
        for card in evidence.cards(host):
            if card.nvlink_errors is not None:
                by_model[card.name][f"{host} {card.index}"] = host, card
    for cards in by_model.values():
        others = middle_of_others({key: card.nvlink_errors or 0 for key, (_, card) in cards.items()})
        for key, (host, card) in cards.items():
            count = card.nvlink_errors or 0
            if count >= MANY_ERRORS and count >= 10 * others.get(key, count):
                yield Hit(
                    hosts=(host,),
                    observed=f"GPU {card.index}: {count} errors on its NVLinks",
                    expected=f"few, as the {others[key]:g} of its like",
                    severity="warn",
                    symptom="all-reduce inside the host is slow, until a link goes down",
                    cause="errors",
                )


def _fabric(host: str, cards: tuple[Gpu, ...]) -> Iterator[Verdict]:
    waiting = tuple(card for card in cards if awaits_fabric(card))
    if waiting:
        yield Hit(
            hosts=(host,),
            observed=f"{numbers(waiting)}: the NVSwitch fabric is {waiting[0].fabric}",
            expected="Completed",
            cause="fabric",
        )


RULES: tuple[Rule, ...] = (
    Rule(
        code="gpu.ecc",
        severity="fail",
        looks_at="uncorrected ECC errors since the last boot",
        judge=of_cards(_ecc),
        needs=("gpus",),
        symptom="wrong results, or Xid 48/94 in the middle of a run",
        fix=shell("sudo nvidia-smi -r", advice="replace the card when they come back"),
    ),
    Rule(
        code="gpu.remap",
        severity="fail",
        looks_at="memory rows that wait to be replaced, or could not be",
        judge=of_cards(_remap),
        needs=("gpus",),
        symptom="the next allocation that touches the row ends in an ECC error",
        fix=shell("sudo nvidia-smi -r"),
    ),
    Rule(
        code="gpu.throttle",
        severity="warn",
        looks_at="clocks held down by heat or power",
        judge=of_cards(_throttle),
        needs=("gpus",),
        symptom="one slow rank sets the pace for all",
        fix=shell("nvidia-smi -q -d PERFORMANCE", looks=True, advice="check cooling and power supply"),
    ),
    Rule(
        code="gpu.pcie",
        severity="warn",
        looks_at="PCIe lanes of each card against its like",
        judge=where_gpus(_pcie),
        needs=("gpus",),
        symptom="copies to this card take twice as long or more",
        fix="reseat the card, then look at the slot's setting in the BIOS",
    ),
    Rule(
        code="gpu.nvlink",
        severity="fail",
        looks_at="NVLinks that are down and errors on them, against cards of the same kind",
        judge=where_gpus(_nvlinks),
        needs=("gpus",),
        symptom="all-reduce inside the host is slow or hangs",
        fix=shell("sudo nvidia-smi -r", advice="reseat the bridge or the baseboard where that does not help"),
    ),
    Rule(
        code="gpu.fabric",
        severity="fail",
        looks_at="whether cards behind NVSwitches have joined their fabric",
        judge=of_cards(_fabric),
        needs=("gpus",),
        symptom="CUDA error 802, “system not yet initialized”, at the first CUDA call",
        fix=shell("sudo systemctl restart nvidia-fabricmanager"),
    ),
)

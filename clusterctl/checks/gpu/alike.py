"""Cards of one kind that are not quite alike: their firmware, and how they are connected."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from clusterctl.checks.consistency import deviations
from clusterctl.checks.gpu.asked import where_gpus
from clusterctl.checks.remedy import shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, Rule, Skipped, Verdict

Pairs = Mapping[str, str]


def _vbios(evidence: Evidence) -> Iterator[Verdict]:
    """Of one board only: makers of GeForce cards write firmware of their own."""
    boards: defaultdict[tuple[str, str], defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for host in evidence.facts:
        for card in evidence.cards(host):
            if card.vbios and (card.board or "GeForce" not in card.name):
                boards[card.name, card.board][host].add(card.vbios)
    for (name, _), told in boards.items():
        versions = {host: " and ".join(sorted(found)) for host, found in told.items()}
        yield from deviations(versions, of=f"{name}: VBIOS")


def _topology(evidence: Evidence) -> Iterator[Verdict]:
    """Hosts with the same cards in the same places."""
    alike: defaultdict[tuple[tuple[int, str], ...], dict[str, Pairs]] = defaultdict(dict)
    for host, facts in evidence.facts.items():
        cards = evidence.cards(host)
        chosen = {card.index for card in cards}
        pairs = {
            pair: kind
            for pair, kind in facts.nvidia.topology.items()
            if chosen.issuperset(map(int, pair.split("-")))
        }
        if pairs:
            alike[tuple((card.index, card.name) for card in cards)][host] = pairs
    if not alike:
        yield Skipped("no host has two cards that nvidia-smi tells the connection of")
    for of_host in alike.values():
        yield from _unlike(evidence, of_host)


def _unlike(evidence: Evidence, of_host: Mapping[str, Pairs]) -> Iterator[Verdict]:
    """Without a majority the better connected are taken for what is meant."""
    counted = Counter(tuple(sorted(pairs.items())) for pairs in of_host.values())
    most, count = max(counted.items(), key=lambda item: (item[1], _links(dict(item[0]))))
    usual = dict(most)
    products = {evidence.facts[host].product for host, pairs in of_host.items() if pairs == usual}
    for host, pairs in of_host.items():
        pair = next((pair for pair in usual if pairs.get(pair) != usual[pair]), "")
        if not pair:
            continue
        cards = evidence.cards(host)
        if any(card.nvlinks and card.nvlinks[1] for card in cards) and usual[pair].startswith("NV"):
            yield Blocked(host, "gpu.nvlink tells of it")
            continue
        first, second = pair.split("-")
        by_nvlink = usual[pair].startswith("NV") or pairs.get(pair, "").startswith("NV")
        matters = by_nvlink or evidence.facts[host].product in products - {""}
        yield Hit(
            hosts=(host,),
            observed=f"GPU {first} and {second} are connected by {pairs.get(pair, 'nothing')}",
            expected=f"{usual[pair]}, as on {count} of {len(of_host)} hosts with these cards",
            severity="warn" if matters else "info",
            cause=f"{pair} {pairs.get(pair)} {matters}",
        )


def _links(pairs: Pairs) -> int:
    return sum(int(kind[2:]) for kind in pairs.values() if kind.startswith("NV") and kind[2:].isdigit())


RULES: tuple[Rule, ...] = (
    Rule(
        code="gpu.vbios",
        severity="warn",
        looks_at="the VBIOS of cards of one board",
        judge=where_gpus(_vbios),
        needs=("gpus",),
        symptom="cards of one kind that behave differently: other clocks, other faults cured",
        fix="ask the machine's vendor for one VBIOS for all",
    ),
    Rule(
        code="gpu.topo",
        severity="warn",
        looks_at="how the cards are connected, between hosts with the same cards",
        judge=where_gpus(_topology),
        needs=("gpus", "routes"),
        symptom="all-reduce inside this host takes longer, and it sets the pace for all",
        fix=shell("nvidia-smi topo -m", looks=True, advice="look at slots, bridges and the BIOS's settings"),
    ),
)

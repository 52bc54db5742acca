"""Which failed dials are made again, alone, before anybody is blamed; and what became of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set

import msgspec

from clusterctl.facts.model import Dial
from clusterctl.network.attribution import Edge, attribute, explained

CONFIRMATIONS = 2
"""So many paths must fail again, alone, before the culprit that explains them is believed to be one."""
AT_ONCE = 4
OTHERS = 3
DIALS = 2
UNDECIDED = frozenset({"connected", "unsettled"})
NOT_FAILED = UNDECIDED | {"ok"}


def failed(dials: Iterable[Dial]) -> set[Edge]:
    """(source, target) of failed dials that matter: an address that nobody reaches, of a host that has
    another one, is no way at all."""
    kept = list(dials)
    dead = _dead_addresses(kept)
    return {
        (dial.source, dial.target)
        for dial in kept
        if dial.result not in NOT_FAILED and (dial.target, dial.address) not in dead
    }


def next_wave(dials: Sequence[Dial], repeated: Set[Edge]) -> tuple[Edge, ...]:
    """Edges to try again now; no host is in two of them. None when every culprit is confirmed."""
    bad = failed(dials)
    asked = {(dial.source, dial.target) for dial in dials if dial.result not in UNDECIDED} | bad
    wave: list[Edge] = []
    busy: set[str] = set()
    for blame in attribute(bad, asked):
        edges = explained(blame, bad)
        again = len(edges & repeated)
        if again >= min(CONFIRMATIONS, len(edges)):
            continue
        chosen = 0
        for edge in sorted(edges - repeated):
            if chosen < AT_ONCE and not busy & set(edge):
                wave.append(edge)
                busy |= set(edge)
                chosen += 1
    return tuple(wave)


def worth_repeating(dials: Iterable[Dial], wave: Iterable[Edge]) -> list[Dial]:
    """Of each edge two failed dials for every way they failed: the others are believed as these are."""
    edges = set(wave)
    kept: defaultdict[tuple[Edge, str], list[Dial]] = defaultdict(list)
    for dial in dials:
        edge = (dial.source, dial.target)
        if edge in edges and dial.result not in NOT_FAILED and len(kept[edge, dial.result]) < DIALS:
            kept[edge, dial.result].append(dial)
    return [dial for found in kept.values() for dial in found]


def unconfirmed(dials: Sequence[Dial], repeated: Set[Edge]) -> set[Edge]:
    """Failed edges that neither failed again nor share a culprit with ones that did."""
    bad = failed(dials)
    asked = {(dial.source, dial.target) for dial in dials if dial.result not in UNDECIDED} | bad
    left = set(bad)
    for blame in attribute(bad, asked):
        edges = explained(blame, bad)
        if len(edges & repeated) >= min(CONFIRMATIONS, len(edges)):
            left -= edges
    return left


def suspects(dials: Sequence[Dial]) -> tuple[str, ...]:
    """Hosts that explain failed dials by themselves."""
    bad = failed(dials)
    asked = {(dial.source, dial.target) for dial in dials if dial.result not in UNDECIDED} | bad
    return tuple(
        dict.fromkeys(
            host for blame in attribute(bad, asked) if len(blame.hosts) == 1 for host in blame.hosts
        )
    )


def others(hosts: Sequence[str], suspect: str, asked: Set[Edge], sick: Set[str]) -> tuple[Edge, ...]:
    """Both ways between a suspect and three hosts beyond suspicion that have not tried it yet."""
    start = hosts.index(suspect)
    found: list[Edge] = []
    for host in [*hosts[start + 1 :], *hosts[:start]]:
        if host not in sick and (host, suspect) not in asked and (suspect, host) not in asked:
            found += [(host, suspect), (suspect, host)]
            if len(found) == 2 * OTHERS:
                break
    return tuple(found)


def merged(dials: Sequence[Dial], again: Iterable[Dial]) -> tuple[Dial, ...]:
    """The later result of each dial in the place of the earlier one."""
    newer = {_key(dial): dial for dial in again}
    kept = [newer.pop(_key(dial), dial) for dial in dials]
    return (*kept, *newer.values())


def unsettled(dial: Dial, reason: str) -> Dial:
    """A failure that is not believed, with what is known about it."""
    what = f"{dial.result}{f', {dial.detail}' if dial.detail else ''}"
    return msgspec.structs.replace(dial, result="unsettled", detail=f"it failed once ({what}), {reason}")


def in_words(wave: Iterable[Edge]) -> str:
    """``again, alone: a → b``, for people who wait for it."""
    edges = sorted(wave)
    more = f" and {len(edges) - 1} more" if len(edges) > 1 else ""
    return f"again, alone: {edges[0][0]} → {edges[0][1]}{more}" if edges else ""


def _key(dial: Dial) -> tuple[str, str, str, int, str]:
    return (dial.source, dial.target, dial.address, dial.port, dial.kind)


def _dead_addresses(dials: Iterable[Dial]) -> set[tuple[str, str]]:
    reached: defaultdict[str, set[str]] = defaultdict(set)
    tried: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for dial in dials:
        tried[dial.target, dial.address].add(dial.source)
        if dial.result in NOT_FAILED:
            reached[dial.target].add(dial.address)
    return {
        (target, address)
        for (target, address), sources in tried.items()
        if len(sources) > 1 and reached[target] and address not in reached[target]
    }

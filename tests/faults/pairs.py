"""Two of the faults of ``facts_single`` at once, on two of five hosts: what is said must be the sum."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from random import Random
from typing import Any

import msgspec

from clusterctl.facts.model import Facts
from tests.builders import cluster
from tests.fact_sets import Case, Cluster, above_a_note, judged
from tests.faults.facts_single import FAULTS

HOSTS = 5
_MOVED = (
    ("node2", "node3"),
    ("10.0.0.3", "10.0.0.4"),
    ("machine-2", "machine-3"),
    ("boot-2", "boot-3"),
    ('"n2-', '"n3-'),
)


class Clash(Exception):
    """Both faults alter one thing."""


def pairs(seed: int = 0, most: int = 0) -> Iterator[Case]:
    """All of them, or ``most`` that ``seed`` draws. Left out are faults that need another number of hosts, or
    that a silent host elsewhere makes smaller."""
    alone = [each for each in FAULTS if each.hosts == 3 and _is_of_one_host(each)]
    drawn = [pair for pair in combinations(alone, 2) if _settings(pair[0]) == _settings(pair[1])]
    if most:
        drawn = Random(seed).sample(drawn, most)
    for first, second in drawn:
        try:
            yield both(first, second)
        except Clash:
            continue


def both(first: Case, second: Case) -> Case:
    """``first`` on node2 and ``second`` on node3. Raises Clash."""
    healthy = cluster(HOSTS, gpus=first.gpus)
    one, two = _altered(first), _moved(_altered(second), healthy)
    facts = {host: _merged(healthy[host], one[host], two[host]) for host in healthy}
    expected = {code: set(hosts.split()) for code, hosts in first.expected.items()}
    for code in second.expected:
        expected.setdefault(code, set()).add("node3")
    moved = (msgspec.structs.replace(each, host="node3") for each in second.failures)
    return msgspec.structs.replace(
        first,
        name=f"{first.name}, and {second.name}",
        hosts=HOSTS,
        alter=(lambda _: dict(facts),),
        failures=(*first.failures, *moved),
        expected={code: " ".join(sorted(hosts)) for code, hosts in expected.items()},
    )


def _is_of_one_host(case: Case) -> bool:
    """On node2 alone, among five hosts too."""
    if set(case.expected.values()) != {"node2"}:
        return False
    return above_a_note(judged(msgspec.structs.replace(case, hosts=HOSTS))) == case.expected


def _settings(case: Case) -> tuple[object, ...]:
    return case.gpus, case.slots, case.declared, tuple(case.env.items()), case.traffic, case.quick


def _altered(case: Case) -> Cluster:
    facts = cluster(HOSTS, gpus=case.gpus)
    for alteration in case.alter:
        facts = alteration(facts)
    return msgspec.convert(msgspec.to_builtins(facts), dict[str, Facts])


def _moved(facts: Cluster, healthy: Cluster) -> Cluster:
    """The same with node2 and node3 exchanged, in whatever names them."""
    macs = tuple(next(link.mac for link in healthy[host].interfaces[1:]) for host in ("node2", "node3"))
    other = {old: new for one, two in (*_MOVED, macs) for old, new in ((one, two), (two, one))}
    word = "|".join(re.escape(each) for each in sorted(other, key=len, reverse=True))
    text = re.sub(f"(?:{word})(?![0-9])", lambda found: other[found[0]], msgspec.json.encode(facts).decode())
    return msgspec.json.decode(text, type=dict[str, Facts])


def _merged(healthy: Any, one: Any, two: Any) -> Any:
    if one == healthy:
        return two
    if healthy in (two, one) or one == two:
        return one
    if isinstance(healthy, msgspec.Struct) and type(one) is type(two) is type(healthy):
        names = healthy.__struct_fields__
        merged = {name: _merged(*(getattr(each, name) for each in (healthy, one, two))) for name in names}
        return type(healthy)(**merged)
    if isinstance(healthy, dict) and None not in (one, two):
        named = (*healthy, *(name for name in (*one, *two) if name not in healthy))
        joined = {name: _merged(*(each.get(name) for each in (healthy, one, two))) for name in named}
        return {name: value for name, value in joined.items() if value is not None}
    raise Clash

"""What has changed on each host since the cluster was called good."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from clusterctl.checks.remedy import Remedy
from clusterctl.checks.rule import Blocked, Evidence, Hit, Rule, Skipped, Verdict
from clusterctl.facts.lasting import Group, HostState, Parts, state_of

NO_BASELINE = "no baseline to compare with (--baseline)"
ALIKE = 0.03
"""Kernels leave a little more or less of the same memory."""
MOST_TOLD = 8


class Change(msgspec.Struct, frozen=True):
    """One thing that is otherwise on a host. ``cause`` is what it has in common with that of other hosts."""

    text: str
    cause: str


Differ = Callable[[HostState, HostState], Iterator[Change | None]]
"""(then, now) -> what changed; None for each group that could be read then and not now."""


def _hosts(evidence: Evidence) -> Iterator[Verdict]:
    if evidence.baseline is None:
        yield Skipped(NO_BASELINE)
        return
    then = evidence.baseline.hosts
    new = tuple(host for host in evidence.inventory.names if host not in then)
    missing = [host for host in then if host not in evidence.inventory.names]
    if new:
        yield Hit(hosts=new, observed="not in the baseline: nothing to compare with")
    if missing:
        named = ", ".join(missing[:MOST_TOLD]) + " …" * (len(missing) > MOST_TOLD)
        yield Hit(hosts=(), observed=f"in the baseline, but not examined now: {named}")


def _since(differ: Differ) -> Callable[[Evidence], Iterator[Verdict]]:
    """What ``differ`` finds, grouped: changes that the same hosts have are one finding."""

    def judge(evidence: Evidence) -> Iterator[Verdict]:
        if evidence.baseline is None:
            yield Skipped(NO_BASELINE)
            return
        changed: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for host, now in _states(evidence).items():
            then = evidence.baseline.hosts.get(host)
            if then is None:
                yield Blocked(host, "it is not in the baseline")
                continue
            for change in differ(then, now):
                if change is None:
                    yield Blocked(host, "it could be read for the baseline, and not now")
                else:
                    changed[change.cause][host] = change.text
        together: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for texts in changed.values():
            if len(set(texts.values())) == 1:
                together[tuple(texts)].append(next(iter(texts.values())))
        for hosts, told in together.items():
            more = f"; and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
            yield Hit(hosts=hosts, observed="; ".join(told[:MOST_TOLD]) + more)
        for cause, texts in changed.items():
            if len(set(texts.values())) > 1:
                for host, text in texts.items():
                    yield Hit(hosts=(host,), observed=text, cause=cause)

    return judge


def _states(evidence: Evidence) -> dict[str, HostState]:
    slots = {entry.name: entry.declared_slots for entry in evidence.inventory.hosts}
    network = evidence.network
    return {host: state_of(facts, slots[host], network) for host, facts in evidence.facts.items()}


def _machine(then: HostState, now: HostState) -> Iterator[Change | None]:
    return _values(then.machine, now.machine)


def _software(then: HostState, now: HostState) -> Iterator[Change | None]:
    yield from _values(then.software, now.software)
    yield from _values(then.packages, now.packages, is_open=True)


def _values(then: Group, now: Group, *, is_open: bool = False) -> Iterator[Change | None]:
    """``is_open``: what is not in the group is not on the host. Else another version had no word for it."""
    if then is None:
        return
    if now is None:
        yield None
        return
    keys = dict.fromkeys((*then, *now)) if is_open else [key for key in then if key in now]
    for key in keys:
        old, new = then.get(key, "none"), now.get(key, "none")
        if old is not None and new is None:
            yield None
        elif old is not None and new is not None and not _alike(old, new):
            text = f"{key} {old} -> {new}"
            yield Change(text, key if key == "address" else text)


def _alike(old: str, new: str) -> bool:
    sizes = [re.fullmatch(r"(\d+(?:\.\d+)?) GiB", each) for each in (old, new)]
    if all(sizes):
        first, second = (float(size[1]) for size in sizes if size)
        return abs(first - second) <= ALIKE * max(first, second)
    return old == new


def _parts(name: str) -> Differ:
    """Cards, ports and disks, each with values of its own."""

    def differ(then: HostState, now: HostState) -> Iterator[Change | None]:
        before: Parts = getattr(then, name)
        after: Parts = getattr(now, name)
        if before is None:
            return
        if after is None:
            yield None
            return
        for part in dict.fromkeys((*before, *after)):
            if part not in after:
                yield Change(f"{part} is gone", f"{part} is gone")
            elif part not in before:
                yield Change(f"{part} is new", f"{part} is new")
            else:
                yield from _of_part(part, before[part], after[part])

    return differ


def _of_part(
    part: str, then: Mapping[str, str | None], now: Mapping[str, str | None]
) -> Iterator[Change | None]:
    for change in _values(dict(then), dict(now)):
        if change is None:
            continue  # a link that is down has no speed: what matters is told of the link
        common = "addresses" if change.text.startswith("addresses ") else change.text
        yield Change(f"{part} {change.text}", f"{part} {common}")


def _gpus(then: HostState, now: HostState) -> Iterator[Change | None]:
    """By UUID, so that a card which is gone leaves the others what they were."""
    if then.gpus is None:
        return
    if now.gpus is None:
        yield None
        return
    gone = [uuid for uuid in then.gpus if uuid not in now.gpus]
    new = [uuid for uuid in now.gpus if uuid not in then.gpus]
    if gone:
        total = len(then.gpus)
        which = "is gone" if len(gone) == 1 else "are gone"
        yield _of_cards(f"{len(gone)} of {total} GPUs {which}", [then.gpus[uuid] for uuid in gone])
    if new:
        yield _of_cards(
            f"{len(new)} GPU{'s' * (len(new) != 1)} {'is' if len(new) == 1 else 'are'} new",
            [now.gpus[uuid] for uuid in new],
        )
    altered: Counter[str] = Counter()
    for uuid in then.gpus:
        for change in _values(then.gpus[uuid], now.gpus[uuid]) if uuid in now.gpus else ():
            if change is not None:
                altered[change.text] += 1
    for text, count in altered.items():
        on = f"{count} of {len(now.gpus)} GPUs" if len(now.gpus) > 1 else "its GPU"
        yield Change(f"{text} on {on}", f"{text} on {on}")


def _of_cards(text: str, cards: Iterable[Mapping[str, str | None]]) -> Change:
    models = ", ".join(sorted({card.get("model") or "unknown" for card in cards}))
    return Change(f"{text} ({models})", f"{text} ({models})")


def _network(then: HostState, now: HostState) -> Iterator[Change | None]:
    yield from _parts("interfaces")(then, now)
    yield from _parts("rdma")(then, now)
    # Without traffic another network may be chosen, though nothing has changed.
    chosen, before = now.network, then.network
    if chosen is None or before is None or chosen.get("traffic") == before.get("traffic"):
        yield from _values(before, chosen)


def _limits(then: HostState, now: HostState) -> Iterator[Change | None]:
    yield from _values(then.limits, now.limits)
    yield from _values(then.settings, now.settings, is_open=True)
    yield from _parts("disks")(then, now)


_MEANT = Remedy(
    advice="undo the change; if it is meant, keep the new state with clusterctl doctor --save-baseline"
)


def _rule(subject: str, looks_at: str, differ: Differ, symptom: str) -> Rule:
    return Rule(
        code=f"baseline.{subject}",
        severity="warn",
        looks_at=f"{looks_at}, against the baseline",
        judge=_since(differ),
        symptom=symptom,
        fix=_MEANT,
    )


RULES: tuple[Rule, ...] = (
    Rule(
        code="baseline.hosts",
        severity="info",
        looks_at="hosts that are new, or missing, since the baseline",
        judge=_hosts,
    ),
    _rule(
        "machine",
        "cores, memory, kernel, system, user and slots",
        _machine,
        "the host is another than the one that trained",
    ),
    _rule(
        "software",
        "driver, python, packages, NCCL",
        _software,
        "what worked with the old versions may not with the new",
    ),
    _rule(
        "gpus",
        "the cards, and their modes and limits",
        _gpus,
        "fewer or slower ranks than the cluster was good for",
    ),
    _rule(
        "network",
        "interfaces with their speed, MTU and addresses, RDMA ports, the chosen network",
        _network,
        "the run takes another way, or a slower one",
    ),
    _rule(
        "limits",
        "limits of a session, settings, disks",
        _limits,
        "what fitted into the old limits may not into the new",
    ),
)

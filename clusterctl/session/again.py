"""Between two attempts: the hosts are looked at again, and a spare takes the place of one that is lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from clusterctl.plan.spares import blames_hardware, substitute
from clusterctl.session.examine import Examination
from clusterctl.session.intent import Intent, Ready
from clusterctl.session.launch import look, ready_of, without_spares
from clusterctl.session.progress import Silent
from clusterctl.store.outcome import Attempt
from clusterctl.transport import Transport

_TWICE = 2


def prepare_again(intent: Intent, link: Transport, ended: Sequence[Attempt]) -> Ready:
    """Look at the hosts of a run again after these attempts, and plan the next one: with the same code and
    the same variables of the user, on another port. Raises RefusedError where they cannot run it."""
    attempt = ended[-1].attempt + 1
    intent, without = _replaced(intent, suspects(ended))
    for _ in range(1 + len(intent.spares)):
        seen = look(intent, link, then_more=True, progress=Silent, attempt=attempt)
        bad = _not_ready(without_spares(intent, seen), intent.target.names)
        spares = [host.name for host in intent.spares]
        intent, without = _replaced(intent, {*bad, *_not_ready(seen, spares)})
        if not bad or without:
            break
    return ready_of(intent, seen, attempt=attempt)


def suspects(ended: Sequence[Attempt]) -> set[str]:
    """Hosts that are not to be used again as long as there are others: lost, not heard of at the end, or
    twice the place of a fault that looks like one of the machine."""
    last = ended[-1]
    found = {host for host, left in last.left_behind.items() if left is None}
    blamed = [
        each.cause.host
        for each in ended
        if each.cause is not None and blames_hardware(f"{each.cause.message}\n{each.cause.traceback}")
    ]
    if last.cause is not None and (last.cause.kind == "lost" or blamed.count(last.cause.host) >= _TWICE):
        found.add(last.cause.host)
    return found & set(last.hosts)


def _replaced(intent: Intent, unusable: Collection[str]) -> tuple[Intent, tuple[str, ...]]:
    """With spares in place of those, as far as there are any; a host that was replaced stands by from then
    on, behind all others."""
    active = intent.target.hosts.inventory.hosts
    hosts, replaced, without = substitute(active, unusable, intent.spares)
    taken = {each.spare for each in replaced}
    retired = [host for host in active if host.name in {each.host for each in replaced}]
    spares = (*(spare for spare in intent.spares if spare.name not in taken), *retired)
    return intent.with_hosts(hosts, spares), without


def _not_ready(seen: Examination, names: Iterable[str]) -> set[str]:
    covered = {entry.host for entry in seen.network.hosts}
    return {name for name in names if seen.report.hosts.get(name) == "not-ready" or name not in covered}

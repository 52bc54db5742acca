"""Clusters as facts, altered in one place or two: the language of a table of odd clusters or faults."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec

from clusterctl.ask.facts import CollectedFacts
from clusterctl.checks.evaluate import Report
from clusterctl.facts.machine import Filesystem
from clusterctl.facts.model import Facts, Interface, Reachability, Variable
from clusterctl.inventory.model import Host, Inventory
from clusterctl.network.model import Setting
from clusterctl.plan.profile import Profile
from clusterctl.session import examine
from clusterctl.session.material import Material
from clusterctl.transport.protocol import Failure
from tests.builders import cluster, mesh

Value = TypeVar("Value", bound=msgspec.Struct)
Cluster = dict[str, Facts]
Alteration = Callable[[Cluster], Cluster]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A healthy cluster of ``hosts`` hosts with ``gpus`` cards each, altered, and what doctor must say of it.

    ``expected`` is code -> hosts of all that is above a note; nothing for a cluster that is merely odd.
    """

    name: str
    alter: tuple[Alteration, ...] = ()
    hosts: int = 3
    gpus: int = 0
    slots: int = 0
    """Selected slots of each host; all of its cards when 0."""
    declared: int = 0
    """Slots in the hostfile; as many as cards when 0."""
    expected: dict[str, str] = {}
    env: dict[str, str] = {}
    failures: tuple[Failure, ...] = ()
    traffic: bool = False
    quick: bool = False


def judged(case: Case) -> Report:
    return examine.judged(material(case)).report


def material(case: Case) -> Material:
    """What its hosts would have said."""
    facts = cluster(case.hosts, gpus=case.gpus)
    for alteration in case.alter:
        facts = alteration(facts)
    count = case.slots or case.declared or max(case.gpus, 1)
    names = [f"node{number}" for number in range(1, case.hosts + 1)]
    inventory = Inventory(
        "hostfile",
        tuple(
            Host(name, case.declared or max(case.gpus, 1), tuple(range(count)), line)
            for line, name in enumerate(names, start=1)
        ),
    )
    settings = {
        host: tuple(Setting(name, value, "--env") for name, value in case.env.items()) for host in facts
    }
    for failure in case.failures:
        facts.pop(failure.host)
    reached = mesh(facts) if case.traffic else Reachability()
    return Material(
        taken="2026-01-02T03:04:05Z",
        inventory=inventory,
        profile=Profile(),
        answers=CollectedFacts(
            facts=facts,
            failures={failure.host: failure for failure in case.failures},
            reachability=reached,
            seconds=1.5,
        ),
        settings={host: settings[host] for host in facts},
        quick=case.quick,
    )


def above_a_note(report: Report) -> dict[str, str]:
    """Code -> the hosts it names, of everything that is no note."""
    found: dict[str, set[str]] = {}
    for finding in report.findings:
        if finding.severity != "info":
            found.setdefault(finding.code, set()).update(finding.hosts)
    return {code: " ".join(sorted(hosts)) for code, hosts in found.items()}


def on(hosts: str, **changes: object) -> Alteration:
    """Facts of these hosts (``node1 node2``, or ``*``) with fields changed; a dict changes parts of one."""

    def alter(facts: Cluster) -> Cluster:
        chosen = facts if hosts == "*" else hosts.split()
        return {**facts, **{host: changed(facts[host], changes) for host in chosen}}

    return alter


def changed(value: Value, changes: Mapping[str, object]) -> Value:
    fields: dict[str, object] = {}
    for name, new in changes.items():
        old = getattr(value, name)
        if isinstance(new, dict) and isinstance(old, msgspec.Struct):
            fields[name] = changed(old, new)
        elif isinstance(new, dict) and isinstance(old, dict):
            merged = {**old, **new}
            fields[name] = {key: each for key, each in merged.items() if each is not None}
        else:
            fields[name] = new
    return msgspec.structs.replace(value, **fields)


def card(hosts: str, indices: Iterable[int], **changes: object) -> Alteration:
    """Fields of these cards of these hosts changed."""
    wanted = set(indices)

    def alter(facts: Cluster) -> Cluster:
        for host in facts if hosts == "*" else hosts.split():
            cards = tuple(
                msgspec.structs.replace(each, **changes) if each.index in wanted else each
                for each in facts[host].nvidia.gpus
            )
            facts = on(host, nvidia={"gpus": cards})(facts)
        return facts

    return alter


def disk(hosts: str, role: str, **changes: object) -> Alteration:
    """Fields of one file system changed."""

    def alter(facts: Cluster) -> Cluster:
        for host in facts if hosts == "*" else hosts.split():
            entries: tuple[Filesystem, ...] = tuple(
                msgspec.structs.replace(each, **changes) if each.role == role else each
                for each in facts[host].filesystems
            )
            facts = on(host, filesystems=entries)(facts)
        return facts

    return alter


def link(hosts: str, **changes: object) -> Alteration:
    """Fields of each host's eth0 changed."""

    def alter(facts: Cluster) -> Cluster:
        for host in facts if hosts == "*" else hosts.split():
            links: tuple[Interface, ...] = tuple(
                msgspec.structs.replace(each, **changes) if each.name == "eth0" else each
                for each in facts[host].interfaces
            )
            facts = on(host, interfaces=links)(facts)
        return facts

    return alter


def beside(**interface_of: Interface) -> Alteration:
    """A further interface on each host named."""

    def alter(facts: Cluster) -> Cluster:
        for host, extra in interface_of.items():
            facts = on(host, interfaces=(*facts[host].interfaces, extra))(facts)
        return facts

    return alter


def variable(hosts: str, name: str, value: str, origin: str = "environment") -> Alteration:
    def alter(facts: Cluster) -> Cluster:
        for host in facts if hosts == "*" else hosts.split():
            facts = on(host, variables=(*facts[host].variables, Variable(name, value, origin)))(facts)
        return facts

    return alter

"""What host names resolve to, where a run depends on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from clusterctl.checks.remedy import Remedy, address, hostname, shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Skipped, Verdict, never_asked
from clusterctl.facts.model import Facts, Name
from clusterctl.inventory.fold import fold
from clusterctl.network.candidates import borne, is_usable, machine


def _resolved(facts: Facts, query: str) -> Name | None:
    return next((name for name in facts.names if name.query == query), None)


def _own(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        own = _resolved(facts, facts.hostname)
        if own is None:
            yield NotKnown(host, "its own host name was not looked up")
        elif own.late:
            yield NotKnown(host, own.error)
        elif not own.addresses:
            yield Hit(
                hosts=(host,),
                observed=f"its own name {facts.hostname} does not resolve",
                fix=_in_etc_hosts(_address_of(evidence, host), facts.hostname),
                cause="unresolved",
            )
        elif elsewhere := _of_another(evidence, host, own.addresses[0]):
            yield Hit(
                hosts=(host,),
                observed=f"its own name {facts.hostname} resolves to {own.addresses[0]}, the address of "
                f"{elsewhere}",
                expected=f"{_address_of(evidence, host)}, its own",
                fix=f"correct the line of {facts.hostname} in /etc/hosts or in the name server",
                cause="another host's",
            )


def _of_another(evidence: Evidence, host: str, found: str) -> str:
    """The host, on another machine, that bears the address which ``host`` does not. One of the same name is
    `host.name-clash`."""
    own = evidence.facts[host]
    if found in borne(own):
        return ""
    return next(
        (
            other
            for other, facts in evidence.facts.items()
            if found in borne(facts) and machine(facts) != machine(own) and facts.hostname != own.hostname
        ),
        "",
    )


def _in_etc_hosts(where: str, name: str) -> Remedy:
    fit = address(where) and hostname(name)
    return shell("echo {} | sudo tee -a /etc/hosts", values=(f"{where} {name}" if fit else None,))


def _address_of(evidence: Evidence, host: str) -> str:
    entry = evidence.network.of(host)
    return entry.address if entry else evidence.facts[host].ssh_address or "127.0.1.1"


def _loopback(evidence: Evidence) -> Iterator[Verdict]:
    """Debian writes 127.0.1.1 into every /etc/hosts: harmless where Gloo is told its interface, as in every
    launch; without a network there is none."""
    for host, facts in evidence.facts.items():
        own = _resolved(facts, facts.hostname)
        if own is None or not own.addresses:
            yield Blocked(host, "its own name does not resolve")
        elif ip_address(own.addresses[0].partition("%")[0]).is_loopback:
            yield Hit(
                hosts=(host,),
                observed=f"its own name resolves to {own.addresses[0]}; "
                "GLOO_SOCKET_IFNAME covers that in a launch",
                severity="info",
            )


def _master(evidence: Evidence) -> Iterator[Verdict]:
    first = next(iter(evidence.facts), "")
    setting = evidence.setting(first, "MASTER_ADDR")
    name = setting.value if setting else ""
    if not name or is_address(name):
        yield Skipped("MASTER_ADDR is an address, not a name")
        return
    seen: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for host, facts in evidence.facts.items():
        found = _resolved(facts, name)
        if found is None:
            yield NotKnown(host, f"{name} was not looked up")
        elif found.late:
            yield NotKnown(host, found.error)
        elif not found.addresses:
            yield Hit(hosts=(host,), observed=f"{name} does not resolve", expected="one address everywhere")
        else:
            seen[tuple(sorted(found.addresses))].append(host)
    right = _rightly(evidence, first, seen)
    for addresses, hosts in seen.items():
        if len(seen) > 1 and addresses != right:
            others = "; ".join(f"{each[0]} on {fold(on)}" for each, on in seen.items() if each != addresses)
            yield Hit(
                hosts=tuple(hosts),
                observed=f"{name} is {addresses[0]} there, and {others}",
                expected="one address everywhere"
                if right is None
                else f"{right[0]}, as on {fold(seen[right])}",
            )


def _rightly(
    evidence: Evidence, first: str, seen: Mapping[tuple[str, ...], list[str]]
) -> tuple[str, ...] | None:
    """The answer that is an address of rank 0's host, else what most hosts say; else None."""
    fitting = [addresses for addresses in seen if borne(evidence.facts[first]).issuperset(addresses)]
    if len(fitting) == 1:
        return fitting[0]
    usual = max(seen, key=lambda addresses: len(seen[addresses]))
    return usual if 2 * len(seen[usual]) > len(evidence.facts) else None


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _master_local(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.network.hosts:
        yield Skipped("no network was chosen")
        return
    first = evidence.network.hosts[0].host
    if first not in evidence.facts:
        return
    master = evidence.network.master_addr
    if not is_address(master):
        found = _resolved(evidence.facts[first], master)
        master = found.addresses[0] if found and found.addresses else master
    own = {
        address.address
        for link in evidence.facts[first].interfaces
        if is_usable(link)
        for address in link.addresses
    }
    if master not in own:
        yield Hit(
            hosts=(first,),
            observed=f"MASTER_ADDR {evidence.network.master_addr} is on none of its running interfaces",
            expected=f"an address of rank 0's host, e.g. {evidence.network.hosts[0].address}",
        )
    elif not evidence.is_alone and is_address(master) and ip_address(master).is_loopback:
        yield Hit(
            hosts=(first,),
            observed=f"MASTER_ADDR {evidence.network.master_addr} is its loopback: no other host reaches it",
            expected=f"an address of rank 0's host, e.g. {evidence.network.hosts[0].address}",
        )


def _family(evidence: Evidence) -> Iterator[Verdict]:
    families: dict[str, set[int]] = {}
    for host, facts in evidence.facts.items():
        own = _resolved(facts, facts.hostname)
        if own and own.addresses:
            families[host] = {ip_address(text.partition("%")[0]).version for text in own.addresses}
    only_six = tuple(host for host, versions in families.items() if versions == {6})
    for host in only_six if len(only_six) < len(families) else ():
        where = _address_of(evidence, host)
        four = ":" not in where and "." in where
        yield Hit(
            hosts=(host,),
            observed="its name resolves to IPv6 only, the others' to IPv4",
            expected="one address family",
            fix=_in_etc_hosts(where, evidence.facts[host].hostname) if four else "",
            cause="six",
        )


RULES: tuple[Rule, ...] = (
    Rule(
        code="name.own",
        severity="warn",
        looks_at="whether the host's own name resolves there, and whether its resolver answers",
        judge=_own,
        needs=("system", "names"),
        symptom="what looks up its own host name fails or waits at its start: torch.distributed.elastic, MPI",
    ),
    Rule(
        code="name.loopback",
        severity="info",
        looks_at="what the host's own name resolves to, on the host",
        judge=_loopback,
        needs=("system", "names"),
    ),
    Rule(
        code="name.master",
        severity="fail",
        looks_at="a MASTER_ADDR given as a name, resolved on every host",
        judge=_master,
        needs=("names",),
        symptom="the rendezvous times out on some nodes",
        fix="give MASTER_ADDR as an address",
    ),
    Rule(
        code="name.master-local",
        severity="fail",
        looks_at="MASTER_ADDR against the running interfaces of rank 0's host",
        judge=_master_local,
        needs=("interfaces", "names"),
        symptom="no rank meets rank 0 there, and all wait for ten minutes",
        fix="set no MASTER_ADDR, by --master-addr either: clusterctl gives the address it chose",
    ),
    Rule(
        code="name.rdzv-host",
        severity="fail",
        looks_at="whether torchrun's dynamic rendezvous would know its own host",
        judge=never_asked("ranks are assigned: no dynamic rendezvous takes place"),
    ),
    Rule(
        code="name.family",
        severity="warn",
        looks_at="the address family of the hosts' own names",
        judge=_family,
        needs=("system", "names"),
        symptom="errno 97, or “family … neither AF_INET nor AF_INET6”",
        fix="write an IPv4 line for the host into its /etc/hosts",
    ),
)

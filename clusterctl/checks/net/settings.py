"""Interface names that the user set, for the run or on a host, and that NCCL and Gloo would obey."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.checks.rule import Evidence, Hit, Rule, Skipped, Verdict
from clusterctl.facts.addresses import ip_address
from clusterctl.facts.model import Facts, Interface
from clusterctl.network.candidates import is_usable, is_wired
from clusterctl.network.ifname import GLOO, NCCL, TENSORPIPE, admitted, parse_nccl


def _settings(evidence: Evidence, host: str, names: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """(variable, value, origin) of what the user set for the run or what is set on the host."""
    for name in names:
        setting = evidence.setting(host, name)
        if setting is not None:
            yield name, setting.value, setting.origin
        else:
            for variable in evidence.facts[host].variables:
                if variable.name == name:
                    yield name, variable.value, variable.origin


def nccl_name(evidence: Evidence) -> Iterator[Verdict]:
    asked = False
    for host, facts in evidence.facts.items():
        for name, value, origin in _settings(evidence, host, (NCCL,)):
            asked = True
            yield from _judge_filter(facts, name, value, origin, alone=evidence.is_alone)
    if not asked:
        yield Skipped(f"{NCCL} is set nowhere")


def _judge_filter(facts: Facts, name: str, value: str, origin: str, *, alone: bool) -> Iterator[Verdict]:
    usable = [link for link in facts.interfaces if is_usable(link) and link.addresses]
    fitting = admitted(name, value, [link.name for link in usable])
    said = f"{name}={value} ({origin})"
    wanted = parse_nccl(value)
    if wanted is None:
        yield Hit(hosts=(facts.host,), observed=f"{said} is too short: NCCL ignores it", severity="warn")
    elif not fitting:
        has = ", ".join(link.name for link in usable if link.kind != "loopback")
        yield Hit(
            hosts=(facts.host,),
            observed=f"{said} matches no running interface",
            expected=f"one of: {has}",
            cause=said,
        )
    elif " " in value:
        yield Hit(
            hosts=(facts.host,), observed=f"{said} has spaces, which belong to the name", severity="warn"
        )
    elif len(fitting) > 1 and not wanted.excludes:
        yield Hit(
            hosts=(facts.host,),
            observed=f"{said} matches {', '.join(fitting)}: NCCL spreads data over all of them",
            expected=f"{NCCL}=={fitting[0]}",
            severity="warn",
        )
    else:
        decoys = [name for name in fitting if _is_decoy(facts, name)]
        if decoys and (wanted.excludes or len(decoys) == len(fitting)):
            yield Hit(
                hosts=(facts.host,),
                observed=f"{said} leaves {', '.join(decoys)}: no way to another host",
                expected=f"one of: {', '.join(link.name for link in usable if not _is_lo(link))}",
                severity="warn" if alone or len(decoys) < len(fitting) else None,
                cause=said,
            )


def _is_decoy(facts: Facts, ifname: str) -> bool:
    link = next(link for link in facts.interfaces if link.name == ifname)
    only_local = all(ip_address(address.address).is_link_local for address in link.addresses)
    return link.kind == "loopback" or only_local or (link.kind == "bridge" and not is_wired(facts, link))


def _is_lo(link: Interface) -> bool:
    return link.kind == "loopback"


def gloo_name(evidence: Evidence) -> Iterator[Verdict]:
    asked = False
    for host, facts in evidence.facts.items():
        present = {link.name for link in facts.interfaces if is_usable(link)}
        for name, value, origin in _settings(evidence, host, (GLOO, TENSORPIPE)):
            asked = True
            said = f"{name}={value} ({origin})"
            parts = [part.strip() for part in value.split(",")]
            local = [] if evidence.is_alone else [link.name for link in facts.interfaces if _is_lo(link)]
            if value.startswith(("^", "=")):
                yield Hit(
                    hosts=(host,), observed=f"{said} is NCCL's syntax", expected="a bare interface name"
                )
            elif not any(part in present for part in parts):
                yield Hit(
                    hosts=(host,),
                    observed=f"{said} names no running interface",
                    expected=f"one of: {', '.join(sorted(present - {'lo'}))}",
                    cause=said,
                )
            elif set(parts) <= set(local):
                yield Hit(
                    hosts=(host,),
                    observed=f"{said} is no way to another host",
                    expected=f"one of: {', '.join(sorted(present - set(local)))}",
                    cause=said,
                )
    if not asked:
        yield Skipped(f"{GLOO} and {TENSORPIPE} are set nowhere")


RULES: tuple[Rule, ...] = (
    Rule(
        code="net.ifname-user",
        severity="fail",
        looks_at="a NCCL_SOCKET_IFNAME of the user's, with NCCL's grammar, on every host",
        judge=nccl_name,
        needs=("settings", "interfaces"),
        symptom="“no socket interface found”, or data over the wrong interface",
        fix="unset it: clusterctl sets it per host",
    ),
    Rule(
        code="net.gloo-name",
        severity="fail",
        looks_at="GLOO_SOCKET_IFNAME and TP_SOCKET_IFNAME, which take plain names only",
        judge=gloo_name,
        needs=("settings", "interfaces"),
        symptom="“Unable to find address for: …” as soon as torch.distributed starts",
        fix="unset it: clusterctl sets it per host",
    ),
)

"""Which interface, address and variables each host gets for the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from clusterctl.facts.model import Facts, Reachability
from clusterctl.inventory.model import Inventory
from clusterctl.network import rdma
from clusterctl.network.candidates import candidates
from clusterctl.network.groups import Group, Member, groups, members
from clusterctl.network.ifname import VARIABLES, admitted
from clusterctl.network.model import Candidate, HostNetwork, Network, Setting
from clusterctl.network.traffic import Traffic
from clusterctl.network.variables import agreed, switched_off, user_settings, variables

MOST_ALTERNATIVES = 3
NOT_ASKED = Reachability()


def choose(
    inventory: Inventory,
    facts: Mapping[str, Facts],
    reachability: Reachability = NOT_ASKED,
    *,
    settings: Mapping[str, Iterable[Setting]] = {},
    pins: Mapping[str, str] = {},
) -> Network:
    """The best network for the hosts that answered, in inventory order.

    With dials it is proven by traffic; without, it is the best common subnet. ``settings`` holds what the
    user set for the run on each host, ``pins`` host -> interface of a profile: both win over our ranking.
    ``problem`` is set when the network does not take in every host that answered.
    """
    answered = {host: facts[host] for host in inventory.names if host in facts}
    if not answered:
        return Network(problem="no host answered")
    decided = {host: user_settings(of_host, settings.get(host, ())) for host, of_host in answered.items()}
    offered = candidates(answered)
    pools = {
        host: tuple(
            member
            for member in members(of_host, offered[host])
            if _is_wanted(member, decided[host], pins.get(host, ""))
        )
        for host, of_host in answered.items()
    }
    ranked = groups(pools, answered, Traffic(answered, reachability))
    if not ranked:
        return Network(problem=_why_none(answered, offered, decided, pins))
    best = ranked[0]
    missing = [host for host in answered if host not in {member.host for member in best.members}]
    ports = {} if switched_off(decided) else rdma.plan(answered)
    decided = agreed(decided, bool(ports))
    first = next(iter(answered))
    named = decided[first].get("MASTER_ADDR")
    master_addr = named.value if named else best.members[0].address
    hosts = []
    for member in best.members:
        values, origins = variables(
            member,
            master_addr=master_addr,
            rdma=ports.get(member.host),
            speed=best.speed,
            settings=decided[member.host],
            origin=f"clusterctl: {'proven by traffic' if best.proven else 'common network'}",
        )
        hosts.append(_host_network(member, values, origins))
    return Network(
        hosts=tuple(hosts),
        master_addr=master_addr,
        master_port=reachability.master_port,
        proven=best.proven,
        subnet=best.subnet,
        alternatives=tuple(
            _alternative(best, other)
            for other in ranked[1 : MOST_ALTERNATIVES + 1]
            if len(other.members) == len(best.members)
        ),
        problem=_why_missing(missing, answered, offered, pools, decided, pins) if missing else "",
    )


def _is_wanted(member: Member, settings: Mapping[str, Setting], pin: str) -> bool:
    """The user's word decides; the profile's pin where the user is silent."""
    named = [name for name in VARIABLES if name in settings]
    if named:
        return all(admitted(name, settings[name].value, (member.link.name,)) for name in named)
    return not pin or member.link.name == pin


def _host_network(member: Member, env: dict[str, str], origins: dict[str, str]) -> HostNetwork:
    return HostNetwork(
        host=member.host,
        ifname=member.link.name,
        address=member.address,
        env=env,
        origins=origins,
        physical=member.wired,
        speed=member.link.speed,
        mtu=member.link.mtu,
    )


def _alternative(best: Group, other: Group) -> Candidate:
    if other.failed > best.failed:
        reason = f"traffic failed on {other.failed} of its paths"
    elif other.kind != best.kind:
        reason = ("", "partly virtual", "wireless", "virtual interfaces", "loopback")[other.kind]
    elif other.speed != best.speed:
        reason = f"{other.speed / 1000:g} Gb/s instead of {best.speed / 1000:g}"
    elif best.one_mtu and not other.one_mtu:
        reason = "its MTUs differ"
    else:
        reason = "as good as the chosen one"
    return Candidate(
        subnet=other.subnet,
        members={member.host: member.link.name for member in other.members},
        addresses={member.host: member.address for member in other.members},
        proven=other.proven,
        reason=reason,
    )


def _why_none(
    facts: Mapping[str, Facts],
    offered: Mapping[str, tuple[tuple[str, str], ...]],
    decided: Mapping[str, Mapping[str, Setting]],
    pins: Mapping[str, str],
) -> str:
    return _why_missing(list(facts), facts, offered, {}, decided, pins)


def _why_missing(
    missing: list[str],
    facts: Mapping[str, Facts],
    offered: Mapping[str, tuple[tuple[str, str], ...]],
    pools: Mapping[str, tuple[Member, ...]],
    decided: Mapping[str, Mapping[str, Setting]],
    pins: Mapping[str, str],
) -> str:
    """One sentence about the first host left out; the others are named behind it."""
    host = missing[0]
    more = f" (as do {len(missing) - 1} more)" if len(missing) > 1 else ""
    has = ", ".join(f"{name} {address}" for name, address in offered[host])
    if not has:
        names = ", ".join(link.name for link in facts[host].interfaces) or "none"
        return f"{host} has no running interface with an address of its own{more}; it has: {names}"
    if not pools.get(host):
        setting = next((decided[host][name] for name in VARIABLES if name in decided[host]), None)
        what = (
            f"{setting.name}={setting.value} ({setting.origin})"
            if setting
            else f"the profile's {pins.get(host, '')}"
        )
        return f"{what} leaves no usable interface on {host}{more}; it has: {has}"
    return f"{host} shares no network with the other hosts{more}; it has: {has}"

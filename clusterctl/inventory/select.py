"""Which hosts and slots of a hostfile a command works on: --include, --exclude, --nodes, --gpus-per-node.

A host with slots=0 takes no part: DeepSpeed would start a node without a process there, which nobody means.
Filters have DeepSpeed's grammar: ``host[:slot[,slot]]`` joined by ``@``; the result keeps hostfile order and
a host without slots left drops out. Beyond it, where DeepSpeed only refuses: names that contain ``@`` or
``:`` work, ``node[01-04]`` names several hosts, and ``--nodes`` and ``--gpus-per-node`` may follow a filter
(DeepSpeed forbids the pair): the filter comes first, then the first N hosts and slots of what it left.
"""

from __future__ import annotations

import difflib

import msgspec

from clusterctl.errors import UsageError
from clusterctl.inventory.fold import expand, fold
from clusterctl.inventory.model import Host, Inventory


def select(
    inventory: Inventory,
    *,
    nodes: int | None = None,
    gpus_per_node: int | None = None,
    include: str = "",
    exclude: str = "",
) -> Inventory:
    """The part of ``inventory`` that was asked for. Raises UsageError where nothing fits, never guesses."""
    if include and exclude:
        raise UsageError(
            "--include and --exclude were both given", hint="use one of them; both name hosts of the hostfile"
        )
    hosts = tuple(host for host in inventory.hosts if host.slots)
    if not hosts:
        raise UsageError(
            f"every host of {inventory.source} has slots=0",
            hint="slots is the number of GPUs to use on a host",
        )
    if include:
        hosts = _included(hosts, _named(inventory, include, "--include"))
    elif exclude:
        hosts = _excluded(hosts, _named(inventory, exclude, "--exclude"))
    if not hosts:
        raise UsageError(
            f"no slot of {inventory.source} is left after {'--include' if include else '--exclude'}",
            hint=f"it has {_count(len(inventory.hosts), 'host')}: {fold(inventory.names)}",
        )
    if nodes is not None:
        hosts = _first_nodes(inventory, hosts, nodes, filtered=bool(include or exclude))
    if gpus_per_node is not None:
        hosts = tuple(_first_slots(inventory, host, gpus_per_node) for host in hosts)
    return msgspec.structs.replace(inventory, hosts=hosts)


def _included(hosts: tuple[Host, ...], named: dict[str, set[int]]) -> tuple[Host, ...]:
    chosen = (
        msgspec.structs.replace(host, slots=tuple(sorted(named[host.name])) or host.slots)
        for host in hosts
        if host.name in named
    )
    return tuple(host for host in chosen if host.slots)


def _excluded(hosts: tuple[Host, ...], named: dict[str, set[int]]) -> tuple[Host, ...]:
    left = []
    for host in hosts:
        gone = (named[host.name] or set(host.slots)) if host.name in named else set()
        left.append(msgspec.structs.replace(host, slots=tuple(s for s in host.slots if s not in gone)))
    return tuple(host for host in left if host.slots)


def _named(inventory: Inventory, text: str, option: str) -> dict[str, set[int]]:
    """Slots asked for by host; an empty set is the whole host. As in DeepSpeed, `a@a:1` is `a:1`."""
    known = {host.name: host for host in inventory.hosts}
    named: dict[str, set[int]] = {}
    for spec in _specs(text, known):
        name, slots = _host_and_slots(spec, known, option)
        for each in expand(name) if name not in known and "[" in name else (name,):
            if each not in known:
                raise _unknown_host(inventory, each, option)
            for slot in slots:
                if slot not in known[each].slots:
                    raise _unknown_slot(inventory, known[each], slot, option)
            named.setdefault(each, set()).update(slots)
    return named


def _specs(text: str, known: dict[str, Host]) -> list[str]:
    """Split at ``@``, but keep ``user@host`` together where the hostfile knows it: longest name first."""
    pieces = text.split("@")
    longest = 1 + max(name.count("@") for name in known)
    specs = []
    while pieces:
        for taken in range(min(longest, len(pieces)), 0, -1):
            spec = "@".join(pieces[:taken])
            name, _, slots = spec.rpartition(":")
            if taken == 1 or spec in known or (name in known and "@" not in slots):
                specs.append(spec)
                del pieces[:taken]
                break
    return specs


def _host_and_slots(spec: str, known: dict[str, Host], option: str) -> tuple[str, list[int]]:
    if spec in known or ":" not in spec:
        return spec, []
    name, _, slots = spec.rpartition(":")
    try:
        if ":" in name and name not in known:
            raise ValueError("more than one colon")
        return name, [int(slot) for slot in slots.split(",")]
    except ValueError:
        raise UsageError(
            f"{option}: '{spec}' is not HOST or HOST:SLOT,SLOT",
            hint="slots are single numbers, such as gpu1:0,1; join hosts with @, such as gpu1@gpu2:0",
        ) from None


def _unknown_host(inventory: Inventory, name: str, option: str) -> UsageError:
    close = difflib.get_close_matches(name, inventory.names, n=1)
    if "," in name:
        hint = "join hosts with @, such as gpu1@gpu2; commas join slots"
    elif close:
        line = next(host.line for host in inventory.hosts if host.name == close[0])
        hint = f"did you mean '{close[0]}' ({inventory.source} line {line})?"
    else:
        hint = f"it has {fold(inventory.names)}"
    return UsageError(f"{option}: host '{name}' is not in {inventory.source}", hint=hint)


def _unknown_slot(inventory: Inventory, host: Host, slot: int, option: str) -> UsageError:
    has = f"slots 0 to {host.declared_slots - 1}" if host.declared_slots else "no slots"
    return UsageError(
        f"{option}: host '{host.name}' has no slot {slot}",
        hint=f"{inventory.source} line {host.line} gives it {has}",
    )


def _first_nodes(
    inventory: Inventory, hosts: tuple[Host, ...], nodes: int, *, filtered: bool
) -> tuple[Host, ...]:
    if nodes < 1:
        raise UsageError(f"--nodes {nodes} selects nothing", hint="give a number from 1 upwards")
    if nodes > len(hosts):
        where = f"{inventory.source}{' and the filter' if filtered else ''}"
        raise UsageError(
            f"--nodes {nodes} is more than there are: {where} {'leave' if filtered else 'has'} "
            f"{_count(len(hosts), 'host')}",
            hint=f"use --nodes {len(hosts)} or less, or add hosts to the file",
        )
    return hosts[:nodes]


def _first_slots(inventory: Inventory, host: Host, count: int) -> Host:
    if count < 1:
        raise UsageError(f"--gpus-per-node {count} selects nothing", hint="give a number from 1 upwards")
    if count > len(host.slots):
        raise UsageError(
            f"--gpus-per-node {count}: host '{host.name}' has {_count(len(host.slots), 'slot')} "
            f"({inventory.source} line {host.line})",
            hint=f"use --gpus-per-node {len(host.slots)}, correct the line, or leave the host out with -e",
        )
    return msgspec.structs.replace(host, slots=host.slots[:count])


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"

"""The rows that need real hosts: a host with something altered, or a whole cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from clusterctl.sandbox import FileSpec, HostSpec, Nic, Sandbox
from tests.faults.host_changes import Change, cards_on_the_bus
from tests.faults.nvidia import fake_smi


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One host: how it is built, and what is altered on it then."""

    changes: tuple[Change, ...] = ()
    nics: tuple[Nic, ...] = (Nic("eth0"),)
    gpus: int = 0
    """Cards that its nvidia-smi shows."""
    slots: int = 0
    """In the hostfile; as many as cards when 0."""
    card: Mapping[str, str] = field(default_factory=dict)
    """What nvidia-smi says of its last card, where that is not healthy."""
    user: str | None = None
    port: int = 22

    @property
    def every_change(self) -> tuple[Change, ...]:
        return (*((cards_on_the_bus(self.gpus),) if self.gpus else ()), *self.changes)

    def spec(self, name: str) -> HostSpec:
        smi = {"/usr/bin/nvidia-smi": FileSpec(fake_smi(name, self.gpus, dict(self.card)), 0o755)}
        return HostSpec(
            name,
            slots=self.slots or max(self.gpus, 1),
            nics=self.nics,
            files=smi if self.gpus else {},
            user=self.user,
            port=self.port,
        )


@dataclass(frozen=True)
class HostRow:
    """A fault of one host, or something odd: the codes doctor must give it, and it alone."""

    name: str
    codes: str
    machine: Machine

    @property
    def host(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:40].strip("-")


@dataclass(frozen=True, kw_only=True)
class ClusterRow:
    """A cluster of its own, for what disturbs other hosts or concerns several."""

    name: str
    machines: Mapping[str, Machine]
    expected: Mapping[str, str] = field(default_factory=dict)
    """Code -> the hosts it must name."""
    options: tuple[str, ...] = ()
    hostfile: Callable[[Sandbox], str] | None = None
    """Its text, where it is not that of the sandbox."""
    ssh_config: Callable[[Sandbox], str] | None = None
    """Lines that come before those of the sandbox."""
    rows: tuple[HostRow, ...] = ()
    """The rows whose hosts these are, when several share the cluster."""

    @property
    def quick(self) -> bool:
        return "--quick" in self.options


def with_own_kernel_log(hosts: Iterable[HostSpec]) -> list[HostSpec]:
    """Hosts whose kernel has said nothing: what this machine met lately is not theirs."""
    quiet = {"/usr/bin/dmesg": FileSpec("#!/bin/sh\n", 0o755)}
    return [msgspec.structs.replace(each, files={**quiet, **each.files}) for each in hosts]


def fault(codes: str, name: str, *changes: Change, **fields: object) -> HostRow:
    return HostRow(name, codes, Machine(changes=changes, **fields))  # type: ignore[arg-type]


def odd(name: str, *changes: Change, **fields: object) -> HostRow:
    return fault("", name, *changes, **fields)


def together(name: str, rows: Iterable[HostRow], *options: str, gpus: int = 0) -> ClusterRow:
    """One cluster, each row a host of it, beside three that are as they should be."""
    rows = tuple(rows)
    machines = {f"healthy{number}": Machine(gpus=gpus) for number in (1, 2, 3)}
    machines |= {row.host: row.machine for row in rows}
    if len(machines) != len(rows) + 3:
        raise ValueError(f"{name}: two rows make one host name")
    expected: dict[str, list[str]] = {}
    for row in rows:
        for code in row.codes.split():
            expected.setdefault(code, []).append(row.host)
    wanted = {code: " ".join(hosts) for code, hosts in expected.items()}
    return ClusterRow(name=name, machines=machines, expected=wanted, options=options, rows=rows)

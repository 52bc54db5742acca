"""The network a run will use: one interface, one address and one set of variables for each host."""

from __future__ import annotations

import msgspec


class Setting(msgspec.Struct, frozen=True):
    """One variable for one host. ``origin`` is for people: ``--env``, ``profile envs/x.yaml``."""

    name: str
    value: str
    origin: str


class HostNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """``env`` maps a variable to its value on this host; ``origins`` says where each value comes from."""

    host: str
    ifname: str
    address: str
    env: dict[str, str]
    origins: dict[str, str]
    physical: bool = True
    speed: int | None = None
    mtu: int = 0


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A network that would do: subnet as text, members host -> interface, why it ranks where it does."""

    subnet: str
    members: dict[str, str]
    addresses: dict[str, str]
    proven: bool
    reason: str


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """``hosts`` holds every host the choice covers, in inventory order; empty when none was found.

    ``proven`` is true only when traffic passed between all pairs in both directions.
    """

    hosts: tuple[HostNetwork, ...] = ()
    master_addr: str = ""
    master_port: int | None = None
    proven: bool = False
    subnet: str = ""
    alternatives: tuple[Candidate, ...] = ()
    problem: str = ""
    """Why the network does not take in every host that answered, in one sentence; empty when it does."""

    def of(self, host: str) -> HostNetwork | None:
        return next((entry for entry in self.hosts if entry.host == host), None)

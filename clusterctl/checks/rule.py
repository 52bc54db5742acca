"""What a rule is: a small function over the evidence, with its code, its severity and its cure beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import ip_network
from itertools import islice
from typing import Protocol

import msgspec

from clusterctl.checks.finding import Severity
from clusterctl.checks.remedy import Fix
from clusterctl.facts.e2e import Proof
from clusterctl.facts.gpu import Gpu, NvidiaSmi
from clusterctl.facts.lasting import Baseline
from clusterctl.facts.model import Facts, Reachability
from clusterctl.facts.sections import Section, unread
from clusterctl.inventory.model import Inventory
from clusterctl.network.candidates import is_usable, is_wired
from clusterctl.network.model import HostNetwork, Network, Setting

NOTHING_HERE = (6, 9, 12)
"""Exit codes of nvidia-smi that a machine without a card gives as well: no device, no driver, no library."""
_OTHER_DRIVERS = frozenset({"nouveau", "vfio-pci", "pci-stub", "xen-pciback"})


class NoAnswer(Protocol):
    """Why a host gave no facts: the stage its session broke at, a sentence, and the cure.

    ``open_keys`` are private keys here that were not offered because others may read them.
    """

    @property
    def host(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def hint(self) -> str: ...
    @property
    def open_keys(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Evidence:
    """All that rules may look at. ``facts`` holds the hosts that answered, in inventory order.

    ``expect`` is what the profile wants: ``python``, ``driver``, ``kernel``, ``nccl``, ``cuda`` or a
    package's name -> version. ``settings`` is what the user set for the run on each host. ``quick`` says
    that neither `import torch` nor the mesh was asked for; ``simulated`` that all hosts are one machine's
    loopback. ``baseline`` is how the hosts were when somebody called them good.
    """

    inventory: Inventory
    facts: Mapping[str, Facts]
    failures: tuple[NoAnswer, ...] = ()
    reachability: Reachability = field(default_factory=Reachability)
    network: Network = field(default_factory=Network)
    proof: Proof = field(default_factory=Proof)
    expect: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    quick: bool = False
    simulated: bool = False
    baseline: Baseline | None = None

    @property
    def is_alone(self) -> bool:
        """Whether the loopback interface reaches every rank."""
        return self.simulated or len(self.inventory.hosts) < 2

    def setting(self, host: str, name: str) -> Setting | None:
        """What the user set ``name`` to on ``host``, whoever of the sources it came from."""
        return next((each for each in self.settings.get(host, ()) if each.name == name), None)

    @property
    def has_gpus(self) -> bool:
        """False for a cluster where no machine shows that NVIDIA's driver is meant to run a card there."""
        return any(runs_nvidia(of_host.nvidia) for of_host in self.facts.values())

    def cards(self, host: str) -> tuple[Gpu, ...]:
        """The GPUs behind the selected slots of ``host``: others are nobody's business here."""
        slots = self._slots.get(host, frozenset())
        return tuple(card for card in self.facts[host].nvidia.gpus if card.index in slots)

    @cached_property
    def _slots(self) -> Mapping[str, frozenset[int]]:
        return {entry.name: frozenset(entry.slots) for entry in self.inventory.hosts}

    @property
    def chosen(self) -> Iterator[tuple[HostNetwork, Facts]]:
        """Every host of the chosen network whose facts may be judged."""
        for entry in self.network.hosts:
            if entry.host in self.facts:
                yield entry, self.facts[entry.host]

    @property
    def linked(self) -> Iterator[tuple[HostNetwork, Facts]]:
        """As `chosen`, and hosts with an interface in that network which a setting of their user's keeps out:
        it hides nothing that is wrong with the interface."""
        yield from self.chosen
        covered = {entry.host for entry in self.network.hosts}
        subnets = {text.strip() for text in self.network.subnet.split(",")}
        for host, facts in self.facts.items():
            if host not in covered:
                inside = (
                    HostNetwork(
                        host=host,
                        ifname=link.name,
                        address=address.address,
                        env={},
                        origins={},
                        physical=is_wired(facts, link),
                        speed=link.speed,
                        mtu=link.mtu,
                    )
                    for link in facts.interfaces
                    if is_usable(link)
                    for address in link.addresses
                    if str(ip_network(f"{address.address}/{address.prefix}", strict=False)) in subnets
                )
                yield from ((entry, facts) for entry in islice(inside, 1))

    def told(self, needs: tuple[Section, ...]) -> tuple[Evidence, dict[str, str]]:
        """The evidence of hosts that could tell all of ``needs``, and host -> why for the others."""
        missing: dict[str, str] = {}
        for host, facts in self.facts.items():
            parts = unread(facts)
            reasons = [f"{part}: {parts[part]}" for part in needs if part in parts]
            if reasons:
                missing[host] = reasons[0]
        if not missing:
            return self, missing
        kept = {host: facts for host, facts in self.facts.items() if host not in missing}
        return replace(self, facts=kept), missing


def runs_nvidia(smi: NvidiaSmi) -> bool:
    """Whether the machine has a card that NVIDIA's driver runs, or should: nvidia-smi in an image does not
    say so, nor does a card that another driver has taken."""
    if smi.gpus or smi.kernel_driver:
        return True
    if smi.devices:
        return not smi.bound or not _OTHER_DRIVERS.issuperset(smi.bound)
    return smi.present and smi.exit_code not in (0, *NOTHING_HERE)


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """The rule is broken on ``hosts``. Empty text and None mean the rule's own.

    Hits of one rule with one ``cause`` are one finding, however their texts differ from host to host. Without
    one, the text itself is the cause.
    """

    hosts: tuple[str, ...]
    observed: str
    expected: str = ""
    severity: Severity | None = None
    symptom: str = ""
    fix: Fix = ""
    cause: str = ""


class NotKnown(msgspec.Struct, frozen=True):
    """The host answered but could not tell this one thing. Never counts as a pass."""

    host: str
    reason: str


class Blocked(msgspec.Struct, frozen=True):
    """This could not be asked because of something another rule reports; no finding of its own."""

    host: str
    reason: str


class Passed(msgspec.Struct, frozen=True):
    """The host passed although it gave no facts: its session broke only later."""

    host: str


class Skipped(msgspec.Struct, frozen=True):
    """The rule says nothing about this cluster, and why."""

    reason: str


Verdict = Hit | NotKnown | Blocked | Passed | Skipped
Judge = Callable[[Evidence], Iterable[Verdict]]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One check. ``looks_at`` is what it reads; ``fix`` is what to type unless the judge knows better.

    ``needs`` are the parts of a host's facts that the judge relies on: a host that could not tell one of them
    is unknown, and the judge never sees it.
    """

    code: str
    severity: Severity
    looks_at: str
    judge: Judge
    needs: tuple[Section, ...] = ()
    symptom: str = ""
    fix: Fix = ""


def never_asked(reason: str) -> Judge:
    """The judge of a rule that this version does not ask for: skipped, with the reason, never passed."""

    def judge(_: Evidence) -> Iterable[Verdict]:
        return (Skipped(reason),)

    return judge

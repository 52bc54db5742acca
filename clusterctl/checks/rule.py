"""What a rule is: a small function over the evidence, with its code, its severity and its cure beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from clusterctl.checks.finding import Severity
from clusterctl.facts.model import Facts, Reachability
from clusterctl.inventory.model import Inventory
from clusterctl.network.model import Network, Setting


class NoAnswer(Protocol):
    """Why a host gave no facts: the stage its session broke at, a sentence, and the cure."""

    @property
    def host(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def hint(self) -> str: ...


@dataclass(frozen=True)
class Evidence:
    """All that rules may look at. ``facts`` holds the hosts that answered, in inventory order.

    ``expect`` is what the profile wants: ``python``, ``driver``, ``kernel``, ``nccl``, ``cuda`` or a
    package's name -> version. ``settings`` is what the user set for the run on each host. ``quick`` says
    that neither `import torch` nor the mesh was asked for; ``simulated`` that all hosts are one machine's
    loopback.
    """

    inventory: Inventory
    facts: Mapping[str, Facts]
    failures: tuple[NoAnswer, ...] = ()
    reachability: Reachability = field(default_factory=Reachability)
    network: Network = field(default_factory=Network)
    expect: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    quick: bool = False
    simulated: bool = False

    def setting(self, host: str, name: str) -> Setting | None:
        """What the user set ``name`` to on ``host``, whoever of the sources it came from."""
        return next((each for each in self.settings.get(host, ()) if each.name == name), None)

    @property
    def has_gpus(self) -> bool:
        """False for a CPU-only cluster: no driver answers and no NVIDIA device sits on any bus."""
        return any(
            of_host.nvidia.gpus or of_host.nvidia.devices or of_host.nvidia.present
            for of_host in self.facts.values()
        )


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """The rule is broken on ``hosts``. Empty text and None mean the rule's own."""

    hosts: tuple[str, ...]
    observed: str
    expected: str = ""
    severity: Severity | None = None
    symptom: str = ""
    fix: str = ""


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
    """One check. ``looks_at`` is what it reads; ``fix`` is what to type unless the judge knows better."""

    code: str
    severity: Severity
    looks_at: str
    judge: Judge
    symptom: str = ""
    fix: str = ""


def never_asked(reason: str) -> Judge:
    """The judge of a rule that this version does not ask for: skipped, with the reason, never passed."""

    def judge(_: Evidence) -> Iterable[Verdict]:
        return (Skipped(reason),)

    return judge

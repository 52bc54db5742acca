"""What a run left behind, as the values that its page is made from."""

from __future__ import annotations

from typing import Any

import msgspec

from clusterctl.advise.explain import Explanation
from clusterctl.checks.finding import Finding
from clusterctl.plan.model import LaunchPlan
from clusterctl.store.outcome import Outcome
from clusterctl.store.sample import Sample
from clusterctl.store.step import Step

SOFTWARE = "hosts.json"
"""Where a run directory has the `HostSoftware` of its hosts."""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``started`` is wall clock; ``steps`` of all attempts; ``samples`` by host, in the order of time.

    ``events`` are those of ``events.jsonl``. ``tail`` ends the log of the rank that failed first. ``unread``
    says what was too much to read. ``outcome`` is None of a run that goes on or has lost its controller.
    ``typed``: the options of its launch, where they were written down.
    """

    plan: LaunchPlan
    outcome: Outcome | None
    found: Explanation
    started: float
    steps: tuple[Step, ...] = ()
    samples: dict[str, tuple[Sample, ...]] = {}
    events: tuple[dict[str, Any], ...] = ()
    findings: tuple[Finding, ...] = ()
    hosts: tuple[HostSoftware, ...] = ()
    tail: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    typed: tuple[str, ...] | None = None


class HostSoftware(msgspec.Struct, frozen=True, kw_only=True):
    """What a host had when the run started, by name (``torch``, ``driver``); empty where it has none."""

    host: str
    has: dict[str, str]

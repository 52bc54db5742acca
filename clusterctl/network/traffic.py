"""What the dials between hosts prove, indexed by who dialled which address."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import median
from typing import Literal

from clusterctl.facts.model import Dial, Facts, Reachability
from clusterctl.network.repeats import NOT_FAILED

Proof = Literal["ok", "failed", "unknown"]


class Traffic:
    """Answers about one `Reachability`. The master port is left out: it is a port, not a path."""

    def __init__(self, facts: Mapping[str, Facts], reachability: Reachability) -> None:
        self.asked = reachability.asked
        self.sampled = reachability.sampled
        self._dials: defaultdict[tuple[str, str], list[Dial]] = defaultdict(list)
        self._devices: dict[tuple[str, str], str] = {}
        for dial in reachability.dials:
            if dial.is_path:
                self._dials[dial.source, dial.address].append(dial)
                if dial.device:
                    self._devices.setdefault((dial.source, dial.address), dial.device)
        self._own = {
            host: frozenset(address.address for link in of_host.interfaces for address in link.addresses)
            for host, of_host in facts.items()
        }

    def device(self, source: str, address: str) -> str:
        """The interface ``source`` leaves by towards ``address``; "" where unknown or not off the machine."""
        found = self._devices.get((source, address), "")
        return "" if found == "lo" else found

    def tried(self, source: str, address: str) -> bool:
        return (source, address) in self._dials

    def proof(self, source: str, address: str) -> Proof:
        """Whether every connection from ``source`` to ``address`` passed, bulk and unmasked.

        An accepted connection whose process has not answered passes where another one proves who it is.
        """
        dials = self._dials.get((source, address), [])
        if any(dial.result not in NOT_FAILED or self.is_translated(dial) for dial in dials):
            return "failed"
        if any(dial.result == "unsettled" for dial in dials) or all(dial.result != "ok" for dial in dials):
            return "unknown"
        return "ok"

    def is_translated(self, dial: Dial) -> bool:
        """True when the listener saw an address that the dialling host does not have (NAT)."""
        return bool(dial.seen) and dial.seen not in self._own.get(dial.source, frozenset())

    def latency(self, source: str, address: str) -> float | None:
        """Median seconds of the passed dials; None when there is none."""
        times = [dial.seconds for dial in self._dials.get((source, address), ()) if dial.result == "ok"]
        return median(times) if times else None

"""What the user set for the run on one host, from all sources, strongest first. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from clusterctl.facts.model import Facts
from clusterctl.network.model import Setting
from clusterctl.plan import activation
from clusterctl.plan.variables import strongest


class Layers(msgspec.Struct, frozen=True, kw_only=True):
    """``above`` wins over what the host's activation line sets, ``below`` gives way to it.

    What the line sets is known only once the host has answered.
    """

    above: tuple[Setting, ...] = ()
    below: tuple[Setting, ...] = ()

    def merged(self, facts: Facts | None = None, origin: str = "") -> tuple[Setting, ...]:
        """One setting a name, sorted. A variable that the activation line has unset stays so, unless a
        stronger source sets it. ``origin`` names the line.

        Without ``facts``: as if there were no such line."""
        if facts is None:
            return strongest(self.above, self.below)
        unset = activation.removed(facts)
        below = (setting for setting in self.below if setting.name not in unset)
        return strongest(self.above, activation.settings(facts, origin), below)


def of_hosts(
    names: Iterable[str],
    *,
    typed: Iterable[Setting],
    profile: Mapping[str, Iterable[Setting]],
    below: Iterable[Setting],
) -> dict[str, Layers]:
    """Layers by host. ``typed`` and ``below`` go to every host alike."""
    typed, below = tuple(typed), tuple(below)
    return {
        host: Layers(above=strongest(typed, profile.get(host, ())), below=strongest(below)) for host in names
    }

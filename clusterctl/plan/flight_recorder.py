"""Where torch's flight recorder writes when it gives up on a collective: into the run directory. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from clusterctl.facts.model import Facts
from clusterctl.facts.versions import version
from clusterctl.plan.model import Setting

ORIGIN = "clusterctl: torch's account of a hang, kept with the logs"
_NEW_NAMES = "2.10"
"""From here on torch complains of the old ones, which are all that earlier ones know."""
_VARIABLES = (
    ("{run_dir}/dumps/rank-", "TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE"),
    ("2000", "TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE"),
    ("1", "TORCH_NCCL_DUMP_ON_TIMEOUT", "TORCH_NCCL_DUMP_ON_TIMEOUT"),
)


def settings(
    facts: Mapping[str, Facts], own: Mapping[str, Iterable[Setting]]
) -> dict[str, tuple[Setting, ...]]:
    """For each host. What the user or a host's sessions set under either name stays, and then alone."""
    return {host: tuple(_of(facts[host], {s.name for s in own.get(host, ())})) for host in facts}


def _of(facts: Facts, own: set[str]) -> Iterable[Setting]:
    taken = own | {each.name for each in facts.variables if each.origin == "environment"}
    told = version(facts.python.packages.get("torch", ""))
    newest = version(_NEW_NAMES)
    knows_new = told is not None and newest is not None and told >= newest
    for value, name, old_name in _VARIABLES:
        if not taken & {name, old_name}:
            names = {name} if knows_new else {name, old_name}
            yield from (Setting(each, value, ORIGIN) for each in sorted(names))

"""Ask every host, choose the network, judge: one examination of a cluster, for every verb that needs one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from clusterctl.ask.facts import CollectedFacts, FactsRequest, ask
from clusterctl.checks.name import is_address
from clusterctl.errors import UsageError
from clusterctl.facts.lasting import Baseline
from clusterctl.facts.model import Facts, Reachability
from clusterctl.inventory.model import Inventory
from clusterctl.network.choose import choose
from clusterctl.network.model import Network, Setting
from clusterctl.plan import activation, defaults
from clusterctl.plan.activation import without
from clusterctl.plan.build import settings_of
from clusterctl.plan.group import Trials, idle_devices, one_rank_a_host
from clusterctl.plan.layers import Layers
from clusterctl.plan.model import RunVariables
from clusterctl.session.material import Invocation, Material
from clusterctl.session.progress import Progress, Silent
from clusterctl.session.target import Target
from clusterctl.settings import RUN
from clusterctl.transport import Transport

if TYPE_CHECKING:
    from clusterctl.checks.evaluate import Report
    from clusterctl.checks.selection import Selection


class Examination(msgspec.Struct, frozen=True):
    """What the hosts answered and what it was judged with, the network they get, the judgement."""

    material: Material
    network: Network
    report: Report

    @property
    def answers(self) -> CollectedFacts:
        """What the hosts said."""
        return self.material.answers

    @property
    def settings(self) -> dict[str, tuple[Setting, ...]]:
        """The user's own for each host that answered: a plan takes these and no others."""
        return self.material.settings

    def capture(self, folder: str | os.PathLike[str], invocation: Invocation | None = None) -> None:
        """Keep all of it, without secrets, in a new private folder: `replay` makes the same report of it.

        Raises UsageError for a folder that holds anything, ClusterctlError where none can be written.
        """
        from clusterctl.session import capture

        material = self.material
        if invocation is not None:
            material = msgspec.structs.replace(material, invocation=invocation)
        capture.write(material, Path(folder))


def load_what_judges() -> None:
    """It takes as long as hosts need to answer."""
    import clusterctl.checks.evaluate  # noqa: F401


def examine(
    target: Target,
    link: Transport,
    *,
    layers: Mapping[str, Layers],
    quick: bool = False,
    torch: bool = True,
    all_pairs: bool = False,
    thorough: bool = False,
    then_more: bool = False,
    workdir: Path | None = None,
    selection: Selection | None = None,
    baseline: Baseline | None = None,
    preferred_port: int = RUN.preferred_master_port,
    meanwhile: Callable[[], None] = load_what_judges,
    progress: Progress = Silent,
) -> Examination:
    """Everything there is to know about the hosts of ``target``, asked over ``link``. A sick host is in the
    report, never an exception.

    ``quick`` asks for facts only; without ``torch`` traffic is sent, but torch is not imported, and no
    all-reduce made; ``all_pairs`` sends it between all hosts, where else more than 64 would try a sample.
    ``thorough`` adds what takes its time: bandwidth between the hosts and, where GPUs are idle, what they do.
    ``then_more``: a run follows over the same ``link``. ``meanwhile`` is done here while hosts
    answer. Without ``selection`` every rule judges.
    Raises UsageError for a MASTER_PORT that is none.
    """
    names, profile, inventory = target.names, target.profile, target.hosts.inventory
    first = {setting.name: setting.value for setting in layers[names[0]].merged()}
    master = first.get("MASTER_ADDR", "")
    request = FactsRequest(
        quick=quick,
        python={host: python for host in names if (python := profile.python_of(host))},
        env={host: _values(layers[host].above) for host in names},
        defaults={host: _values(layers[host].below) for host in names},
        activate={host: line for host in names if (line := profile.activate_of(host))},
        names=(master,) if master and not is_address(master) else (),
        torch=torch,
        all_pairs=all_pairs,
        then_more=then_more,
        workdir=str(workdir or Path.cwd()),
        workdirs={host: own for host in names if (own := profile.workdir_of(host))},
        master_port=_port(first.get("MASTER_PORT", "")),
        preferred_port=preferred_port,
    )

    def merged(facts: Mapping[str, Facts]) -> dict[str, tuple[Setting, ...]]:
        return {host: layers[host].merged(told, target.activation) for host, told in facts.items()}

    def chosen(facts: Mapping[str, Facts], reachability: Reachability) -> dict[str, RunVariables]:
        settings = merged(facts)
        network = choose(inventory, facts, reachability, settings=settings, pins=profile.pins(facts))
        return _variables(inventory, facts, network, settings)

    def arrange(facts: Mapping[str, Facts], reachability: Reachability) -> Trials:
        settings = merged(facts)
        network = choose(inventory, facts, reachability, settings=settings, pins=profile.pins(facts))
        variables = _variables(inventory, facts, network, settings)
        return Trials(
            gloo=one_rank_a_host(inventory, facts, reachability, network, variables, thorough=thorough),
            addresses={entry.host: entry.address for entry in network.hosts},
            thorough=thorough,
            devices=idle_devices(inventory, facts) if thorough else {},
        )

    with progress(names) as asking:
        answers = ask(
            link,
            inventory,
            request,
            on_progress=asking.answered,
            on_awaiting=asking.awaiting,
            choose=None if target.hosts.simulated else chosen,
            arrange=arrange if torch and not quick else None,
            meanwhile=meanwhile,
        )
    settings = merged(answers.facts)
    material = Material(
        taken=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        inventory=inventory,
        profile=profile,
        answers=answers,
        settings=settings,
        quick=quick or not torch,
        simulated=target.hosts.simulated,
        invocation=Invocation(how=target.hosts.how),
    )
    return judged(material, selection, baseline)


def judged(
    material: Material, selection: Selection | None = None, baseline: Baseline | None = None
) -> Examination:
    """The network and the report that follow from what was heard; nothing is asked."""
    from clusterctl.checks.evaluate import evaluate
    from clusterctl.checks.selection import EVERY_RULE

    answers, profile = material.answers, material.profile
    network = choose(
        material.inventory,
        answers.facts,
        answers.reachability,
        settings=material.settings,
        pins=profile.pins(answers.facts),
    )
    report = evaluate(
        material.inventory,
        answers.facts,
        answers.failures.values(),
        answers.reachability,
        network,
        proof=answers.proof,
        expect=profile.expect,
        settings=material.settings,
        quick=material.quick,
        simulated=material.simulated,
        baseline=baseline,
        selection=selection or EVERY_RULE,
    )
    return Examination(material, network, report)


def _variables(
    inventory: Inventory,
    facts: Mapping[str, Facts],
    network: Network,
    settings: Mapping[str, tuple[Setting, ...]],
) -> dict[str, RunVariables]:
    """What the plan of a run would set on each host that the network covers."""
    present = msgspec.structs.replace(
        inventory, hosts=tuple(host for host in inventory.hosts if host.name in facts)
    )
    given = defaults.of_hosts(present, facts, settings)
    found: dict[str, RunVariables] = {}
    for host in present.hosts:
        entry, told = network.of(host.name), facts[host.name]
        if entry is not None:
            planned = settings_of(host, entry, given[host.name], gpus=len(told.nvidia.gpus))
            found[host.name] = RunVariables(
                address=entry.address,
                python=told.python.executable,
                env=_values(planned),
                removed=without(activation.removed(told), planned),
            )
    return found


def _values(settings: tuple[Setting, ...]) -> dict[str, str]:
    return {setting.name: setting.value for setting in settings}


def _port(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise UsageError(f"MASTER_PORT={text} is not a port", hint="--env MASTER_PORT=29500")
    return int(text)

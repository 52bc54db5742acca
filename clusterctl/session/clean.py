"""Old runs go: first what they left on their hosts, then, when nothing is left there, the run here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from clusterctl.ask import clean as hosts_clean
from clusterctl.ask.clean import Cleaned, Part
from clusterctl.errors import ClusterctlError
from clusterctl.plan.model import LaunchPlan
from clusterctl.session.hosts import transport_of
from clusterctl.session.progress import Progress, Silent
from clusterctl.store.runs import RunDirectory

Why = Literal["", "running", "outputs", "unanswered", "unreachable", "failed", "damaged"]


class RunCleaned(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one run here. ``kept`` is empty when it is gone; ``hosts`` are those for which it is
    kept, ``reason`` is theirs. ``freed`` is bytes on this machine."""

    run: str
    kept: Why = ""
    hosts: tuple[str, ...] = ()
    reason: str = ""
    freed: int = 0


class Cleaning(msgspec.Struct, frozen=True, kw_only=True):
    runs: tuple[RunCleaned, ...]
    hosts: tuple[Cleaned, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every host answered, and nothing failed. What is kept for its outputs is no failure."""
        failed = any(run.kept in ("unanswered", "unreachable", "failed", "damaged") for run in self.runs)
        return not failed and not any(host.problem for host in self.hosts)


def clean(
    directories: Sequence[RunDirectory],
    *,
    take_outputs: bool = False,
    here_only: bool = False,
    dry_run: bool = False,
    progress: Progress = Silent,
) -> Cleaning:
    """Remove runs that are over. One that goes on stays, and so does one of which a host holds outputs that
    were never pulled, unless ``take_outputs``. ``here_only`` asks no host: what lies there stays."""
    runs: list[RunCleaned] = []
    plans: dict[str, LaunchPlan] = {}
    by_name = {directory.run: directory for directory in directories}
    for directory in directories:
        if directory.running():
            runs.append(RunCleaned(run=directory.run, kept="running"))
            continue
        try:
            plans[directory.run] = directory.plan_of_all_attempts()
        except (ClusterctlError, FileNotFoundError) as error:
            if here_only:
                runs.append(_remove(directory, dry_run=dry_run))
            else:
                runs.append(RunCleaned(run=directory.run, kept="damaged", reason=str(error).splitlines()[0]))
    told: list[Cleaned] = []
    for group in () if here_only else _by_link(plans):
        parts: dict[str, dict[str, Part]] = {}
        for name, plan in group.items():
            pulled = by_name[name].pulled()
            for node in plan.nodes:
                part = Part(node_rank=node.node_rank, take_outputs=take_outputs or node.host in pulled)
                parts.setdefault(node.host, {})[name] = part
        try:
            link = transport_of(next(iter(group.values())))
        except ClusterctlError as error:  # no way to these hosts any more: that holds up no other run
            runs += [RunCleaned(run=name, kept="unreachable", reason=error.message) for name in group]
            continue
        try:
            with progress(tuple(parts)) as asking:
                answers = hosts_clean.clean(
                    link, parts, dry_run=dry_run, on_done=lambda host: asking.answered(host, None)
                )
        finally:
            link.close()
        told += answers
        for name, plan in group.items():
            kept = _kept(plan, {answer.host: answer for answer in answers})
            runs.append(kept or _remove(by_name[name], dry_run=dry_run))
    if here_only:
        runs += [_remove(by_name[name], dry_run=dry_run) for name in plans]
    return Cleaning(runs=tuple(sorted(runs, key=lambda run: run.run)), hosts=tuple(told))


def _by_link(plans: dict[str, LaunchPlan]) -> list[dict[str, LaunchPlan]]:
    """The plans by the way to their hosts: one name may mean two hosts in two ssh configurations."""
    groups: dict[tuple[str, str], dict[str, LaunchPlan]] = {}
    for name, plan in plans.items():
        groups.setdefault((plan.transport, plan.ssh_config), {})[name] = plan
    return list(groups.values())


def _kept(plan: LaunchPlan, told: dict[str, Cleaned]) -> RunCleaned | None:
    """Why the run must stay here: the first of its hosts' reasons, gravest first; None when nothing of it is
    left on any."""
    why: dict[Why, dict[str, str]] = {}
    for node in plan.nodes:
        host = told[node.host]
        said = next((each for each in host.runs if each.run == plan.run), None)
        if said is None:
            why.setdefault("unanswered", {})[host.host] = host.problem
        elif said.what in ("running", "outputs", "failed"):
            why.setdefault(said.what, {})[host.host] = said.reason
    order: tuple[Why, ...] = ("unanswered", "failed", "running", "outputs")
    for kept in order:
        if kept in why:
            reason = next(iter(why[kept].values()))
            return RunCleaned(run=plan.run, kept=kept, hosts=tuple(why[kept]), reason=reason)
    return None


def _remove(directory: RunDirectory, *, dry_run: bool) -> RunCleaned:
    freed = directory.size()
    if not dry_run:
        try:
            directory.remove()
        except OSError as error:
            return RunCleaned(run=directory.run, kept="failed", reason=str(error))
    return RunCleaned(run=directory.run, freed=freed)

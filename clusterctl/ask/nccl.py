"""What libnccl takes on each host under the run's own variables, and who reaches the port it opened."""

from __future__ import annotations

from collections.abc import Mapping

from clusterctl.ask.collector import FactCollector
from clusterctl.ask.dialling import Dialling
from clusterctl.facts.decode import decode_nccl
from clusterctl.facts.model import Dial, Facts, NcclPick, Reachability
from clusterctl.messages.examination import AskNccl, IsNcclHeld, NcclAsked, NcclHeld
from clusterctl.network import repeats
from clusterctl.network.dials import Listener
from clusterctl.plan.model import RunVariables
from clusterctl.settings import ASK


def ask_nccl(
    collector: FactCollector,
    facts: Mapping[str, Facts],
    variables: Mapping[str, RunVariables],
    *,
    reachability: Reachability,
    all_pairs: bool,
) -> tuple[dict[str, NcclPick], tuple[Dial, ...]]:
    """Each host's pick, and how its peers fared with that very address and port, where the path to it is open
    by ``reachability``.

    A port that its host no longer holds when somebody could not reach it says nothing about the path.
    """
    asked = {
        host: variables[host]
        for host in collector.present
        if host in variables and not facts[host].python.error
    }
    questions = {host: _question(facts[host], of_host) for host, of_host in asked.items()}
    answers = collector.ask(NcclAsked, questions, ASK.nccl_timeout + ASK.tell_timeout)
    late = NcclPick(unknown="the host did not tell what libnccl says")
    picks = {host: decode_nccl(answers[host].nccl) if host in answers else late for host in asked}
    opened = {
        host: (Listener(pick.address, pick.port, "nccl"),) if pick.address else ()
        for host, pick in picks.items()
    }
    if len(opened) < 2 or not any(opened.values()):
        return picks, ()
    broken = {
        (dial.source, dial.target)
        for dial in reachability.dials
        if dial.target in picks and dial.address == picks[dial.target].address and _failed(dial)
    }
    dialling = Dialling(
        collector, tuple(opened), opened, facts, all_pairs=all_pairs, greeting=False, without=broken
    )
    dialling.visit_all()
    dialling.repeat()
    return picks, _believed(collector, dialling.dials)


def _question(facts: Facts, variables: RunVariables) -> AskNccl:
    return AskNccl(
        python=variables.python,
        env=variables.env,
        removed=variables.removed,
        library=facts.torch.nccl_path if facts.torch else "",
        timeout=ASK.nccl_timeout,
    )


def _believed(collector: FactCollector, dials: tuple[Dial, ...]) -> tuple[Dial, ...]:
    doubted = {dial.target for dial in dials if _failed(dial)}
    if not doubted:
        return dials
    held = collector.ask(NcclHeld, {host: IsNcclHeld() for host in doubted}, ASK.tell_timeout)
    gone = {host for host in doubted if host not in held or not held[host].held}
    return tuple(
        repeats.unsettled(dial, "and libnccl's process there had ended by then")
        if dial.target in gone and _failed(dial)
        else dial
        for dial in dials
    )


def _failed(dial: Dial) -> bool:
    return dial.result not in repeats.NOT_FAILED

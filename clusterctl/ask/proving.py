"""All that proves hosts end to end, one after another: nothing else runs meanwhile."""

from __future__ import annotations

from clusterctl.ask import bandwidth
from clusterctl.ask.allreduce import Backend, all_reduce
from clusterctl.ask.collector import FactCollector
from clusterctl.facts.e2e import Proof
from clusterctl.plan.group import Trials


def prove(collector: FactCollector, trials: Trials) -> Proof:
    """What ``trials`` name, on the hosts that are still there."""
    gloo = all_reduce(collector, trials.gloo, Backend(reuse=True))
    if not trials.thorough:
        return Proof(gloo=gloo)
    return Proof(gloo=gloo, bandwidth=bandwidth.measure(collector, trials.addresses))

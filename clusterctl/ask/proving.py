"""All that proves hosts end to end, one after another: nothing else runs meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from clusterctl.ask import bandwidth, devices
from clusterctl.ask.allreduce import Backend, all_reduce, all_reduces
from clusterctl.ask.collector import FactCollector
from clusterctl.facts.e2e import AllReduce, Proof
from clusterctl.network import pairwise
from clusterctl.network.tournament import Pair, neighbours, second_pass
from clusterctl.plan.group import Group, Trials

NCCL_LOG = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,NET,ENV", "NCCL_DEBUG_FILE": "/dev/stderr"}
SIZES = (8, 8 << 20, 256 << 20)
SMALL_SIZES = (8, 1 << 20)
"""For cores: what is tried there is the way, not the speed."""


def prove(collector: FactCollector, trials: Trials) -> Proof:
    """What ``trials`` name, on the hosts that are still there."""
    gloo = all_reduce(collector, trials.gloo, Backend(reuse=True))
    if not trials.thorough:
        return Proof(gloo=gloo)
    carried = bandwidth.measure(collector, trials.addresses)
    if not any(trials.devices.values()) or not trials.gloo.members:
        return Proof(gloo=gloo, bandwidth=carried)
    everybody = _only(trials.gloo, [each for each in trials.gloo.members if each.host in trials.devices])
    backend = Backend(
        name=trials.backend,
        devices=trials.devices,
        env=NCCL_LOG,
        sizes=SIZES if trials.backend == "nccl" else SMALL_SIZES,
    )
    work = devices.compute(collector, everybody, trials.devices)
    diagnoses = devices.diagnose(collector, everybody) if trials.backend == "nccl" else {}
    together = all_reduce(collector, everybody, backend)
    return Proof(
        gloo=gloo,
        bandwidth=carried,
        devices=work,
        dcgm=diagnoses,
        nccl=together,
        pairs=_pairs(collector, everybody, backend),
    )


def _pairs(collector: FactCollector, everybody: Group, backend: Backend) -> tuple[AllReduce, ...]:
    """Two hosts each; then each suspect with one that passed. Whoever had nobody in the first pass is tried
    in the second."""
    hosts = [member.host for member in everybody.members]
    if len(hosts) < 2:
        return ()
    first = neighbours(hosts)
    found = all_reduces(collector, [_pair(everybody, pair) for pair in first], backend)
    paired = {host for pair in first for host in pair}
    known = pairwise.tried(found)
    sick = [*pairwise.suspects(known), *(host for host in hosts if host not in paired)]
    well = [host for host in hosts if host not in sick]
    for pairs in second_pass(sick, well):
        found += all_reduces(collector, [_pair(everybody, pair) for pair in pairs], backend)
    return found


def _pair(everybody: Group, pair: Pair) -> Group:
    return _only(everybody, [each for each in everybody.members if each.host in pair])


def _only(group: Group, members: Sequence[object]) -> Group:
    """These members of ``group``, with the store on the first, on any free port where that is another."""
    kept = tuple(each for each in group.members if each in members)
    if not kept:
        return msgspec.structs.replace(group, members=(), blocked="no host with an idle GPU can take part")
    if kept[0] == group.members[0]:
        return msgspec.structs.replace(group, members=kept, master_port=0)
    return msgspec.structs.replace(group, members=kept, master_addr=kept[0].address, master_port=0)

"""NCCL on idle GPUs: all of them in one all-reduce, then two hosts at a time; and over which network."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.checks.consistency import deviations
from clusterctl.checks.e2e.gloo import judged
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Skipped, Verdict
from clusterctl.facts.e2e import AllReduce
from clusterctl.facts.nccl_log import NcclLog, parse
from clusterctl.network import pairwise


def _nccl(evidence: Evidence) -> Iterator[Verdict]:
    trial = evidence.proof.nccl
    if trial is None:
        yield _why_not(evidence)
        return
    if trial.blocked:
        yield from (Blocked(host, trial.blocked) for host in evidence.facts)
        return
    members = {rank.host for rank in trial.ranks}
    idle = "no idle GPU there takes part: gpu.busy, gpu.count"
    yield from (Blocked(host, idle) for host in evidence.facts if host not in members)
    yield from judged(evidence, trial)
    logs = {rank.host: parse(rank.log) for rank in trial.ranks if rank.log and rank.host in evidence.facts}
    yield from _by_its_word(evidence, logs)
    yield from _note(trial, logs)


def _why_not(evidence: Evidence) -> Skipped:
    if not evidence.has_gpus:
        return Skipped("no GPU on any host")
    return Skipped("no GPU is idle" if evidence.proof.bandwidth else "asked with --thorough")


def _by_its_word(evidence: Evidence, logs: dict[str, NcclLog]) -> Iterator[Verdict]:
    """What NCCL itself says it uses, against what was chosen, and against the other hosts."""
    for host, log in logs.items():
        chosen = evidence.network.of(host)
        if chosen is None:
            continue
        rdma = chosen.env.get("NCCL_IB_HCA", "")
        if rdma and chosen.env.get("NCCL_IB_DISABLE") != "1" and (log.no_device or log.network == "Socket"):
            yield Hit(
                hosts=(host,),
                observed="NCCL "
                + ("finds no RDMA device" if log.no_device else "sends over TCP (NET/Socket)"),
                expected=f"RDMA, by NCCL_IB_HCA{rdma}",
                severity="fail",
                cause="sockets",
                symptom="ten times slower, without a word",
            )
        if log.bootstrap_address and log.bootstrap_address != chosen.address:
            yield Hit(
                hosts=(host,),
                observed=f"NCCL takes {log.bootstrap_name} {log.bootstrap_address}",
                expected=f"{chosen.ifname} {chosen.address}",
                severity="warn",
                cause="bootstrap",
            )
    yield from deviations(
        {host: f"data goes by {log.network}" for host, log in logs.items() if log.network}, severity="fail"
    )
    yield from deviations(
        {
            host: "adapters reach GPU memory" if log.direct else "data goes through the host's memory"
            for host, log in logs.items()
            if log.direct is not None and log.network != "Socket"
        },
        severity="warn",
    )


def _note(trial: AllReduce, logs: dict[str, NcclLog]) -> Iterator[Hit]:
    bus = pairwise.bus_bandwidth(trial)
    if bus is not None:
        networks = sorted({log.network for log in logs.values() if log.network})
        over = f" over {' and '.join(networks)}" if networks else ""
        yield Hit(
            hosts=tuple(dict.fromkeys(rank.host for rank in trial.ranks)),
            observed=f"all-reduce of {len(trial.ranks)} GPUs{over}: {bus / 1e9:.3g} GB/s (bus bandwidth)",
            severity="info",
        )


def _pairwise(evidence: Evidence) -> Iterator[Verdict]:
    pairs = evidence.proof.pairs
    if not pairs:
        few = evidence.proof.nccl is not None
        yield Skipped("fewer than two hosts with idle GPUs") if few else _why_not(evidence)
        return
    found = tuple(each for each in pairwise.tried(pairs) if each.host in evidence.facts)
    if len(found) == 2:
        yield Skipped("two hosts: e2e.nccl tells all")
        return
    usual = pairwise.usual(found)
    for each in found:
        if each.bus is not None and (each.bus >= usual * pairwise.SLOW or each.pairs < pairwise.ENOUGH):
            continue
        if each.pairs < pairwise.ENOUGH:
            yield NotKnown(each.host, "its pair did not end, and no host passed to try it with")
        elif each.bus is None:
            yield Hit(
                hosts=(each.host,),
                observed=f"none of its all-reduces with {each.pairs} other hosts, one at a time, ended",
                expected="that each pair ends, as others do",
                cause="none",
            )
        else:
            yield Hit(
                hosts=(each.host,),
                observed=f"{each.bus / 1e9:.3g} GB/s at most with {each.pairs} other hosts, one at a time",
                expected=f"about {usual / 1e9:.3g} GB/s, as other pairs",
                severity="warn",
                cause="slow",
            )


RULES: tuple[Rule, ...] = (
    Rule(
        code="e2e.nccl",
        severity="fail",
        looks_at="a real all-reduce by NCCL over all idle GPUs, and over which network NCCL says it went",
        judge=_nccl,
        symptom="the run hangs at its first collective, or is slow without a word",
    ),
    Rule(
        code="e2e.pairwise",
        severity="fail",
        looks_at="an all-reduce of two hosts at a time; suspects once more, with a host that passed",
        judge=_pairwise,
        symptom="one host makes the whole run hang, or holds it up",
        fix="--exclude the host, then look at its adapters and GPUs",
    ),
)

"""Which machine a line of the hostfile is: each once, with its own name, its slots, the right user."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from clusterctl.checks.remedy import Fix, address, by_hand, hostname, shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, Rule, Skipped, Verdict
from clusterctl.network.candidates import machine


def _duplicates(evidence: Evidence) -> Iterator[Verdict]:
    if evidence.simulated:
        yield Skipped("simulated: all hosts are this machine")
        return
    entries: defaultdict[tuple[object, ...], list[str]] = defaultdict(list)
    for host, facts in evidence.facts.items():
        entries[machine(facts)].append(host)
    lines = {host.name: host.line for host in evidence.inventory.hosts}
    for twins in entries.values():
        if len(twins) > 1:
            extra = ", ".join(f"line {lines[host]} ({host})" for host in twins[1:])
            yield Hit(
                hosts=tuple(twins),
                observed=f"{' and '.join(twins)} are one machine",
                expected="one hostfile line per machine",
                fix=by_hand(f"delete {extra} of {evidence.inventory.source} and add its slots to {twins[0]}"),
            )


def _shared_gpus(evidence: Evidence) -> Iterator[Verdict]:
    bearers: defaultdict[str, list[str]] = defaultdict(list)
    for host, facts in evidence.facts.items():
        for gpu in facts.nvidia.gpus:
            if gpu.uuid:
                bearers[gpu.uuid].append(host)
    shared = {uuid: hosts for uuid, hosts in bearers.items() if len(set(hosts)) > 1}
    counted = Counter(tuple(dict.fromkeys(hosts)) for hosts in shared.values())
    for hosts, count in counted.items():
        yield Hit(hosts=hosts, observed=f"{' and '.join(hosts)} see the same {count} GPU(s)")


def _name_clash(evidence: Evidence) -> Iterator[Verdict]:
    bearers: defaultdict[str, dict[tuple[object, ...], str]] = defaultdict(dict)
    for host, facts in evidence.facts.items():
        bearers[facts.hostname][machine(facts)] = host
    for own, machines in bearers.items():
        if len(machines) > 1:
            for host in machines.values():
                yield Hit(
                    hosts=(host,),
                    observed=f"{len(machines)} machines call themselves {own!r}",
                    expected="a hostname of its own on each",
                    fix=_rename(host) if host != own else "",
                    cause=own,
                )


def _rename(host: str) -> Fix:
    """To the name that the hostfile has for it, where that is one."""
    if address(host) or not hostname(host):
        return ""
    return shell("sudo hostnamectl set-hostname {}", values=(host,))


def _slots(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.has_gpus:
        yield Skipped("no GPU on any host: slots count processes")
        return
    for entry in evidence.inventory.hosts:
        facts = evidence.facts.get(entry.name)
        if facts is None:
            continue
        smi = facts.nvidia
        if not smi.gpus and (smi.present or smi.devices or smi.devices is None):
            yield Blocked(entry.name, "the NVIDIA driver gave no answer")
            continue
        if smi.soc and not smi.gpus:
            yield Blocked(entry.name, "nvidia-smi does not tell of a GPU that is part of the processor")
            continue
        count = len(facts.nvidia.gpus)
        wanted = max(entry.declared_slots, max(entry.slots, default=-1) + 1)
        if wanted > count:
            yield Hit(
                hosts=(entry.name,),
                observed=f"slots={wanted}, but {count or 'no'} GPU{'s' * (count != 1)}"
                + f" of NVIDIA's: {smi.amd} of AMD's" * bool(smi.amd),
                expected="at most as many slots as GPUs",
                cause=f"{count} of {wanted}",
                fix=by_hand(f"{evidence.inventory.source} line {entry.line}: {entry.name} slots={count}")
                if count
                else "launch with --exclude HOST: no card of NVIDIA's is on its PCI bus",
            )
        elif entry.declared_slots < count:
            yield Hit(
                hosts=(entry.name,),
                observed=f"{count} GPUs, of which the hostfile uses {entry.declared_slots}",
                severity="info",
            )


def _user(evidence: Evidence) -> Iterator[Verdict]:
    """Different users matter where they write to one filesystem; elsewhere they are only worth a note."""
    users = {host: f"{facts.user} (uid {facts.uid})" for host, facts in evidence.facts.items()}
    tokens = Counter(facts.shared_token for facts in evidence.facts.values() if facts.shared_token)
    sharing = {host for host, facts in evidence.facts.items() if tokens[facts.shared_token] > 1}
    if len({evidence.facts[host].uid for host in sharing}) > 1:
        parts = ", ".join(f"{host}: {users[host]}" for host in users if host in sharing)
        yield Hit(
            hosts=tuple(sharing), observed=parts, expected="one uid on hosts that share a home directory"
        )
    elif len(set(users.values())) > 1:
        by_user: defaultdict[str, list[str]] = defaultdict(list)
        for host, user in users.items():
            by_user[user].append(host)
        parts = "; ".join(f"{user}: {len(hosts)} host(s)" for user, hosts in by_user.items())
        yield Hit(hosts=tuple(users), observed=parts, severity="info")


RULES: tuple[Rule, ...] = (
    Rule(
        code="host.dup",
        severity="fail",
        looks_at="boot id, interfaces and addresses: two entries that are one machine",
        judge=_duplicates,
        needs=("system", "interfaces"),
        symptom="NCCL stops with “Multiple ranks are using the same GPU”, or one machine does twice the work",
    ),
    Rule(
        code="host.shared-gpu",
        severity="warn",
        looks_at="GPU UUIDs over all entries",
        judge=_shared_gpus,
        needs=("gpus",),
        symptom="two ranks share one GPU's memory, and NCCL may refuse to start",
        fix="keep one of the entries, or give each its own GPUs",
    ),
    Rule(
        code="host.name-clash",
        severity="warn",
        looks_at="hostnames over all hosts",
        judge=_name_clash,
        needs=("system", "interfaces"),
        symptom="logs overwrite one another and tools take two nodes for one",
        fix="give each a name of its own, with hostnamectl set-hostname",
    ),
    Rule(
        code="host.slots",
        severity="fail",
        looks_at="slots in the hostfile against the GPUs the driver shows",
        judge=_slots,
        needs=("gpus",),
        symptom="“CUDA error: invalid device ordinal” on this host only",
    ),
    Rule(
        code="host.user",
        severity="warn",
        looks_at="user name and uid on all hosts",
        judge=_user,
        needs=("system", "disks"),
        symptom="permission errors on directories that the hosts share",
    ),
)

"""Limits of the very session that a run would get."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.version import Version

from clusterctl.checks.os.disks import GIB, MIB, size
from clusterctl.checks.remedy import Remedy, account, shell
from clusterctl.checks.rule import Evidence, Hit, Rule, Skipped, Verdict
from clusterctl.facts.model import Facts
from clusterctl.facts.versions import version
from clusterctl.network.rdma import usable_ports

MEMLOCK_FAIL = 64 * MIB
MEMLOCK_WARN = 16 * GIB

DESCRIPTORS_BASE = 512
DESCRIPTORS_PER_RANK = 16
"""Sockets and shared-memory handles that one process holds for each other rank, with room to spare."""

THREADS_BASE = 256
THREADS_PER_RANK = 64
"""Threads of torch, NCCL and four DataLoader workers of one rank, besides one for each core."""

FILE_SIZE = 1024 * GIB
"""A checkpoint of the largest models, in one file."""

CPU_TIME = 365 * 86400
"""Of one process, whose threads add up."""

ADDRESS_SPACE = 32 * GIB
"""Threads of torch reserve much more of it than they use."""

STACK_FIXED = Version("2.28")
"""The NCCL from which an unlimited stack no longer leaves its threads with 2 MB."""

CAP_IPC_LOCK, CAP_SYS_ADMIN, CAP_SYS_RESOURCE = 14, 21, 24


def may(facts: Facts, *capabilities: int) -> bool:
    """Whether the session has one of them: root outside a container has them all."""
    return any((facts.capabilities or 0) >> capability & 1 for capability in capabilities)


_MORE_TASKS = shell("sudo systemctl set-property user.slice TasksMax=infinity")


def _raised(facts: Facts, what: str, limit: int | str) -> Remedy:
    """For this user: ``*`` of limits.conf does not mean root."""
    user = account(facts.user)
    return shell(
        f"echo {{}} | sudo tee /etc/security/limits.d/{what}.conf",
        values=(f"{user} - {what} {limit}" if user else None,),
        advice="log in again, also where tmux or screen runs",
    )


def _memlock(evidence: Evidence) -> Iterator[Verdict]:
    told = [evidence.setting(host, "NCCL_IB_DISABLE") for host in evidence.facts]
    off = all(setting is not None and setting.value == "1" for setting in told)
    if off or not evidence.has_gpus or not any(usable_ports(facts) for facts in evidence.facts.values()):
        yield Skipped("no RDMA in use")
        return
    for host, facts in evidence.facts.items():
        limit = facts.limits.memlock
        if limit is not None and limit < MEMLOCK_WARN and not may(facts, CAP_IPC_LOCK):
            yield Hit(
                hosts=(host,),
                observed=f"locked memory is limited to {size(limit)} in an SSH session",
                expected="unlimited",
                severity="fail" if limit < MEMLOCK_FAIL else "warn",
                fix=_raised(facts, "memlock", "unlimited"),
            )


def _nofile(evidence: Evidence) -> Iterator[Verdict]:
    needed = DESCRIPTORS_BASE + DESCRIPTORS_PER_RANK * evidence.inventory.world_size
    for host, facts in evidence.facts.items():
        limit = facts.limits.nofile
        if limit is not None and limit < needed:
            yield Hit(
                hosts=(host,),
                observed=f"{limit} open files in an SSH session",
                expected=f"{needed} or more for {evidence.inventory.world_size} ranks",
                fix=_raised(facts, "nofile", max(131072, needed)),
            )


def _nproc(evidence: Evidence) -> Iterator[Verdict]:
    slots = {entry.name: len(entry.slots) for entry in evidence.inventory.hosts}
    for host, facts in evidence.facts.items():
        needed = THREADS_BASE + slots[host] * (THREADS_PER_RANK + facts.cpus)
        exempt = may(facts, CAP_SYS_RESOURCE, CAP_SYS_ADMIN) or (facts.uid == 0 and facts.capabilities)
        own = None if exempt else facts.limits.nproc
        for limit, what in ((own, "by ulimit -u"), (facts.cgroup.pids, "by its control group")):
            if limit is not None and limit < needed:
                yield Hit(
                    hosts=(host,),
                    observed=f"{limit} processes and threads in an SSH session, {what}",
                    expected=f"{needed} or more for {slots[host]} ranks on {facts.cpus} cores",
                    fix=_raised(facts, "nproc", "unlimited") if limit == own else _MORE_TASKS,
                    cause=what,
                )


def _stack(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.has_gpus:
        yield Skipped("no GPU on any host: NCCL is not used")
        return
    for host, facts in evidence.facts.items():
        nccl = version(facts.torch.nccl_version) if facts.torch else None
        if nccl and nccl < STACK_FIXED and facts.limits.stack is None:
            yield Hit(
                hosts=(host,),
                observed="the stack is unlimited",
                expected="8 MiB with this NCCL",
                fix=_raised(facts, "stack", 8192),
            )


def _file_size(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        limit = facts.limits.file_size
        if limit is not None and limit < FILE_SIZE:
            yield Hit(
                hosts=(host,),
                observed=f"no file may be larger than {size(limit)} in an SSH session",
                expected="unlimited",
                fix=_raised(facts, "fsize", "unlimited"),
                cause="size",
            )


def _cpu_time(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        limit = facts.limits.cpu_time
        if limit is not None and limit < CPU_TIME:
            yield Hit(
                hosts=(host,),
                observed=f"a process may use {_span(limit)} of CPU time in an SSH session, then it is killed",
                expected="unlimited",
                fix=_raised(facts, "cpu", "unlimited"),
                cause="time",
            )


def _span(seconds: int) -> str:
    for unit, length in (("day(s)", 86400), ("hour(s)", 3600), ("minute(s)", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds} second(s)"


def _address_space(evidence: Evidence) -> Iterator[Verdict]:
    """CUDA maps the host's memory and that of all cards into every process, used or not."""
    for host, facts in evidence.facts.items():
        cards = sum(card.memory_total or 0 for card in facts.nvidia.gpus)
        needed = facts.memory_total + cards if cards else ADDRESS_SPACE
        limit = facts.limits.address_space
        if limit is not None and limit < needed:
            yield Hit(
                hosts=(host,),
                observed=f"a process may have {size(limit)} of address space in an SSH session (ulimit -v)",
                expected="unlimited",
                fix=_raised(facts, "as", "unlimited"),
                cause="space",
            )


RULES: tuple[Rule, ...] = (
    Rule(
        code="os.memlock",
        severity="fail",
        looks_at="locked memory of the very session a run would get, where RDMA is used",
        judge=_memlock,
        needs=("system", "rdma", "gpus"),
        symptom="ibv_reg_mr fails, and NCCL stops or falls back to TCP",
        fix="raise memlock for the user, in /etc/security/limits.d",
    ),
    Rule(
        code="os.nofile",
        severity="warn",
        looks_at="open files per process against the size of the run",
        judge=_nofile,
        needs=("system",),
        symptom="“Too many open files” while the ranks connect",
        fix="raise nofile for the user, in /etc/security/limits.d",
    ),
    Rule(
        code="os.nproc",
        severity="warn",
        looks_at="processes and threads that the session may have, against its ranks and cores",
        judge=_nproc,
        needs=("system",),
        symptom="“Resource temporarily unavailable”, or “can't start new thread” from a DataLoader",
        fix="raise nproc for the user, in /etc/security/limits.d",
    ),
    Rule(
        code="os.stack",
        severity="warn",
        looks_at="an unlimited stack together with an NCCL older than 2.28",
        judge=_stack,
        needs=("system", "gpus"),
        symptom="a segmentation fault while NCCL starts",
        fix="limit the stack of the user to 8192 kB, in /etc/security/limits.d",
    ),
    Rule(
        code="os.fsize",
        severity="warn",
        looks_at="how large a file may be",
        judge=_file_size,
        needs=("system",),
        symptom="a rank ends with signal 25 (SIGXFSZ, “File size limit exceeded”) at its first checkpoint",
    ),
    Rule(
        code="os.cpu-time",
        severity="warn",
        looks_at="how much CPU time a process may use",
        judge=_cpu_time,
        needs=("system",),
        symptom="a rank ends with signal 24 (SIGXCPU) or 9 in the middle of a run",
    ),
    Rule(
        code="os.address-space",
        severity="warn",
        looks_at="how much address space a process may have, against what CUDA and torch map",
        judge=_address_space,
        needs=("system", "gpus"),
        symptom="“out of memory” or “Cannot allocate memory” at the first CUDA call, with memory to spare",
    ),
)

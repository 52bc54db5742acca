"""Memory and cores of each machine, and what the system is about to do to a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from statistics import median_low

from clusterctl.checks.consistency import middle_of_others
from clusterctl.checks.os.disks import GIB, size
from clusterctl.checks.remedy import Remedy, account, shell, unit
from clusterctl.checks.rule import Evidence, Hit, Rule, Skipped, Verdict
from clusterctl.facts.model import Facts

DAY = 86400.0
MEMORY_FAIL = GIB // 4
MEMORY_PER_RANK = GIB // 2
"""What `import torch` and a small model take: a rank with less is killed before its first step."""
ALIKE = 0.10
HALF = 0.5 + ALIKE / 2
FEW = 3
"""Several hosts that have lost half of their memory are few beside those that have not: one to so many."""
LOADED = 0.9
LOAD_RATIO = 3.0
FIRST_USER = 1000
"""Below it are root and system users, whose shared memory logind leaves alone."""


def _usable(facts: Facts) -> int:
    """Memory that the session may ever have."""
    limit = facts.cgroup.memory
    return min(facts.memory_total, limit) if limit is not None else facts.memory_total


def _memory(evidence: Evidence) -> Iterator[Verdict]:
    slots = {entry.name: len(entry.slots) for entry in evidence.inventory.hosts}
    usable = {host: _usable(facts) for host, facts in evidence.facts.items() if facts.memory_total}
    others = _usual(
        evidence.facts,
        {
            host: evidence.facts[host].memory_total if _is_of_a_session(evidence.facts[host]) else total
            for host, total in usable.items()
        },
    )
    for host, total in usable.items():
        facts = evidence.facts[host]
        free = min(facts.memory_available, total)
        limited = f", as {facts.cgroup.memory_path} allows" if total < facts.memory_total else ""
        needed = MEMORY_PER_RANK * slots[host]
        half_of = others[host] if total <= HALF * others[host] else 0
        if free < needed:
            yield Hit(
                hosts=(host,),
                observed=f"{size(free)} of memory are free of {size(total)}{limited}",
                expected=f"{size(needed)} or more for {slots[host]} rank(s)",
                severity="fail" if free < MEMORY_FAIL else "warn",
                cause="little",
            )
        elif half_of or (limited and _is_of_a_session(facts) and total * 2 <= facts.memory_total):
            yield Hit(
                hosts=(host,),
                observed=f"{size(total)} of memory{limited}",
                expected=f"{size(half_of)}, as on the other hosts"
                if half_of and not (limited and _is_of_a_session(facts))
                else size(facts.memory_total),
                fix=_lift(facts) if limited else shell("sudo dmidecode -t memory", looks=True),
                cause="limited" if limited else "half",
            )


def _is_of_a_session(facts: Facts) -> bool:
    """A limit on logins; one on a container was set for what runs in it."""
    return "user.slice" in facts.cgroup.memory_path or "sshd" in facts.cgroup.memory_path


def _lift(facts: Facts) -> Remedy:
    group = facts.cgroup.memory_path.rstrip("/").rpartition("/")[2] or "user.slice"
    return shell("sudo systemctl set-property {} MemoryMax=infinity", values=(unit(group),))


def _usual(facts: Mapping[str, Facts], usable: Mapping[str, int]) -> dict[str, int]:
    """Host -> what more than half of the machines of its kind have alike, where that can be said (three and
    more, of which few have as little as it): else 0. Another model of machine may well have less memory, and
    where many have little, that is how they were bought."""
    kinds: defaultdict[object, list[str]] = defaultdict(list)
    for host in usable:
        kinds[facts[host].product, facts[host].cpus_online].append(host)
    found = dict.fromkeys(usable, 0)
    for hosts in kinds.values():
        totals = [usable[host] for host in hosts]
        middle = median_low(totals) if len(hosts) > 2 else 0
        alike = sum(abs(total - middle) <= ALIKE * middle for total in totals)
        little = sum(total <= HALF * middle for total in totals)
        if alike * 2 > len(hosts) and (little == 1 or little * FEW <= alike):
            found.update(dict.fromkeys(hosts, middle))
    return found


def _cores(facts: Facts) -> float:
    """Cores' worth of time that the session may use."""
    quota = facts.cgroup.cpus
    return min(float(facts.cpus), quota) if quota is not None else float(facts.cpus)


def _cpus(evidence: Evidence) -> Iterator[Verdict]:
    """Fewer than the machine has is a choice where all have it, and a left-over cpuset on one."""
    shares = {
        host: _cores(facts) / facts.cpus_online for host, facts in evidence.facts.items() if facts.cpus_online
    }
    others = middle_of_others(shares)
    for host, share in shares.items():
        if host in others and share * 2 <= others[host]:
            facts = evidence.facts[host]
            quota = "" if _cores(facts) == facts.cpus else " by a quota"
            yield Hit(
                hosts=(host,),
                observed=f"a session may use {_cores(facts):g} of {facts.cpus_online} cores{quota}",
                expected="all of them, as on the other hosts"
                if others[host] == 1
                else "as on the other hosts",
                cause="few",
            )


def _load(evidence: Evidence) -> Iterator[Verdict]:
    """Against the other hosts: where all are as busy, that is what they are for."""
    loads = {
        host: facts.load / facts.cpus_online
        for host, facts in evidence.facts.items()
        if facts.load is not None and facts.cpus_online
    }
    others = middle_of_others(loads)
    for host, load in loads.items():
        if host in others and load >= LOADED and load >= LOAD_RATIO * others[host]:
            facts = evidence.facts[host]
            yield Hit(
                hosts=(host,),
                observed=f"{facts.load or 0:.0f} processes want its {facts.cpus_online} cores",
                expected="cores to itself, as the other hosts have",
                cause="busy",
            )


def _oom(evidence: Evidence) -> Iterator[Verdict]:
    logs = {host: facts.kernel_log for host, facts in evidence.facts.items() if facts.kernel_log}
    readable = {host: log for host, log in logs.items() if not log.error}
    if not readable:
        why = next((log.error for log in logs.values()), "not asked")
        yield Skipped(f"the kernel log cannot be read: {why}")
    for host, log in readable.items():
        lately = [
            kill for kill in log.oom_kills if kill.age < DAY and _is_ours(evidence.facts[host], kill.cgroup)
        ]
        if lately:
            names = ", ".join(dict.fromkeys(kill.command for kill in lately))
            yield Hit(
                hosts=(host,),
                observed=f"memory ran out {len(lately)} time(s) in the last day; killed: {names}",
                cause="killed",
            )


def _is_ours(facts: Facts, cgroup: str) -> bool:
    """The whole machine's memory, or that of this user's sessions: what others limit is their affair."""
    return not cgroup or f"user-{facts.uid}.slice" in cgroup


def _reboot(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        if facts.reboot_required:
            yield Hit(hosts=(host,), observed=f"a reboot is due: {facts.reboot_required}", cause="reboot")


def _logout(evidence: Evidence) -> Iterator[Verdict]:
    """A user counts as logged in while a process is left in the scope of a session: what a run started over
    SSH shares stays, unless logind kills the processes themselves."""
    logins = {host: facts.logind for host, facts in evidence.facts.items() if facts.logind}
    if not logins:
        yield Skipped("no systemd-logind on any host")
    removing = [host for host, logind in logins.items() if logind.remove_ipc]
    for host, logind in logins.items():
        facts = evidence.facts[host]
        if logind.linger or facts.uid == 0:
            continue
        keep = shell("sudo loginctl enable-linger {}", values=(account(facts.user),))
        if logind.kill_processes:
            yield Hit(
                hosts=(host,),
                observed=f"logind kills {facts.user}'s processes at logout (KillUserProcesses)",
                expected="lingering for this user",
                fix=keep,
                cause="kills",
            )
        elif host in removing and facts.uid >= FIRST_USER:
            outside = logind.session is False
            if outside or len(removing) < len(logins):
                yield Hit(
                    hosts=(host,),
                    observed=f"logind removes {facts.user}'s shared memory at the end of the last session "
                    "(RemoveIPC)" + (", and knows nothing of SSH sessions" if outside else ""),
                    severity="info",
                    fix=keep,
                    cause=f"removes {outside}",
                )


def taken_at_logout(facts: Facts) -> str:
    """What logind may take from a run here once no SSH session is left that started it; empty for nothing."""
    logind = facts.logind
    if logind is None or logind.linger or facts.uid == 0:
        return ""
    if logind.kill_processes:
        return f"{facts.user}'s processes (KillUserProcesses)"
    if logind.remove_ipc and facts.uid >= FIRST_USER:
        return f"{facts.user}'s shared memory (RemoveIPC)"
    return ""


RULES: tuple[Rule, ...] = (
    Rule(
        code="os.memory",
        severity="warn",
        looks_at="memory that the session may use: free, limited by control groups, against the other hosts",
        judge=_memory,
        needs=("system",),
        symptom="a rank of this host ends with signal 9 while the others wait",
        fix=shell("ps aux --sort=-rss | head", looks=True),
    ),
    Rule(
        code="os.cpus",
        severity="warn",
        looks_at="cores that the session may use, against the other hosts",
        judge=_cpus,
        needs=("system",),
        symptom="data loading on this host holds up every step",
        fix=shell("systemctl status $$", looks=True, advice="lift the cpuset or the quota of the session"),
    ),
    Rule(
        code="os.load",
        severity="warn",
        looks_at="processes that want a core, where the other hosts are idle",
        judge=_load,
        needs=("system",),
        symptom="one slow host sets the pace for all",
        fix=shell("ps aux --sort=-pcpu | head", looks=True),
    ),
    Rule(
        code="os.oom",
        severity="warn",
        looks_at="what the kernel killed for memory in the last day, where the user may read its log",
        judge=_oom,
        needs=("system", "kernel log"),
        symptom="a rank of this host ends with signal 9 hours into the run",
        fix=shell("sudo dmesg -T | grep -i 'out of memory'", looks=True),
    ),
    Rule(
        code="os.reboot",
        severity="warn",
        looks_at="a reboot that an upgrade has asked for",
        judge=_reboot,
        needs=("system",),
        symptom="the driver's library and its kernel module part at the next package upgrade or boot",
        fix=shell("sudo reboot", reboots=True),
    ),
    Rule(
        code="os.logout",
        severity="warn",
        looks_at="what logind takes away at logout: RemoveIPC, KillUserProcesses, linger",
        judge=_logout,
        needs=("system", "logind"),
        symptom="a run that outlives its SSH session ends with it, or loses its shared memory",
    ),
)

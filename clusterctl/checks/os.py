"""Limits, memory for sharing, and disks."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.version import Version

from clusterctl.checks.rule import Evidence, Hit, NotKnown, Rule, Skipped, Verdict
from clusterctl.facts.model import Facts, Filesystem
from clusterctl.facts.versions import version
from clusterctl.network.rdma import usable_ports

MIB = 1024**2


GIB = 1024**3


SHM_FAIL = 32 * MIB


SHM_FAIL_NCCL = 64 * MIB


SHM_WARN = 64 * MIB


SHM_WARN_NCCL = GIB
"""NCCL's own guide asks for 1 GiB; without GPUs only DataLoader workers use it."""


DISK_FAIL_FREE = GIB


DISK_FULL = 0.95


DISK_FULL_FREE = 10 * GIB


DISK_WARN = 0.80


DISK_WARN_FREE = 20 * GIB


INODES_FAIL = 2.0


INODES_WARN = 5.0


MEMLOCK_FAIL = 64 * MIB


MEMLOCK_WARN = 16 * GIB


DESCRIPTORS_BASE = 512


DESCRIPTORS_PER_RANK = 16
"""Sockets and shared-memory handles that one process holds for each other rank, with room to spare."""


STACK_FIXED = Version("2.28")
"""The NCCL from which an unlimited stack no longer leaves its threads with 2 MB."""


def _filesystem(facts: Facts, role: str) -> Filesystem | None:
    return next((entry for entry in facts.filesystems if entry.role == role), None)


def _size(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def _shm(evidence: Evidence) -> Iterator[Verdict]:
    fail, warn = (SHM_FAIL_NCCL, SHM_WARN_NCCL) if evidence.has_gpus else (SHM_FAIL, SHM_WARN)
    for host, facts in evidence.facts.items():
        shm = _filesystem(facts, "shm")
        if shm is None:
            yield NotKnown(host, "/dev/shm is not mounted or not readable")
        elif shm.free < warn:
            yield Hit(
                hosts=(host,),
                observed=f"{_size(shm.free)} free of {_size(shm.total)} in /dev/shm",
                expected=f"{_size(warn)} or more",
                severity="fail" if shm.free < fail else "warn",
            )


def _shm_stale(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        if facts.stale_shm:
            yield Hit(
                hosts=(host,),
                observed=f"{len(facts.stale_shm)} segment(s) in /dev/shm without an owner",
                fix=f"rm -f {' '.join(facts.stale_shm[:4])}{' …' * (len(facts.stale_shm) > 4)}",
            )


def _disk(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        disks = [entry for entry in facts.filesystems if entry.role not in ("shm", "run")]
        if not disks:
            yield NotKnown(host, "no file system could be read")
        worst: dict[str, Hit] = {}
        for disk in disks:
            found = _fullness(host, disk)
            if found:
                worst.setdefault(disk.device or disk.path, found)
        yield from worst.values()


def _fullness(host: str, disk: Filesystem) -> Hit | None:
    used = 1 - disk.free / disk.total if disk.total else 0.0
    inodes = disk.inodes_free_percent if disk.inodes_free_percent is not None else 100.0
    full = disk.free < DISK_FAIL_FREE or (used >= DISK_FULL and disk.free < DISK_FULL_FREE)
    filling = used >= DISK_WARN and disk.free < DISK_WARN_FREE
    if full or filling:
        observed = f"{disk.path}: {_size(disk.free)} free ({used:.0%} used)"
    elif inodes < INODES_WARN:
        observed = f"{disk.path}: {inodes:.0f} % of the inodes free"
    else:
        return None
    return Hit(
        hosts=(host,),
        observed=observed,
        expected="room for checkpoints and logs",
        severity="fail" if full or inodes < INODES_FAIL else "warn",
        fix=f"du -xh --max-depth=2 {disk.path} | sort -h | tail",
    )


def _write(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        for entry in facts.filesystems:
            if entry.role != "root" and not entry.writable:
                yield Hit(hosts=(host,), observed=f"{entry.path} is not writable for {facts.user}")


def _memlock(evidence: Evidence) -> Iterator[Verdict]:
    told = [evidence.setting(host, "NCCL_IB_DISABLE") for host in evidence.facts]
    off = all(setting is not None and setting.value == "1" for setting in told)
    if off or not evidence.has_gpus or not any(usable_ports(facts) for facts in evidence.facts.values()):
        yield Skipped("no RDMA in use")
        return
    for host, facts in evidence.facts.items():
        limit = facts.limits.memlock
        if limit is not None and limit < MEMLOCK_WARN:
            yield Hit(
                hosts=(host,),
                observed=f"locked memory is limited to {_size(limit)} in an SSH session",
                expected="unlimited",
                severity="fail" if limit < MEMLOCK_FAIL else "warn",
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
            )


def _stack(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.has_gpus:
        yield Skipped("no GPU on any host: NCCL is not used")
        return
    for host, facts in evidence.facts.items():
        nccl = version(facts.torch.nccl_version) if facts.torch else None
        if nccl and nccl < STACK_FIXED and facts.limits.stack is None:
            yield Hit(hosts=(host,), observed="the stack is unlimited", expected="8 MiB with this NCCL")


RULES: tuple[Rule, ...] = (
    Rule(
        code="os.shm",
        severity="fail",
        looks_at="free space in /dev/shm",
        judge=_shm,
        symptom="“failed to extend /dev/shm/nccl-…”, or a DataLoader worker killed by a bus error",
        fix="sudo mount -o remount,size=8G /dev/shm (in a container: --shm-size=8g)",
    ),
    Rule(
        code="os.shm-stale",
        severity="warn",
        looks_at="NCCL's and torch's segments in /dev/shm whose owner is gone",
        judge=_shm_stale,
        symptom="/dev/shm fills up over the runs",
    ),
    Rule(
        code="os.disk",
        severity="fail",
        looks_at="free space and inodes of /, /tmp and the home directory",
        judge=_disk,
        symptom="writing a checkpoint fails hours into the run",
    ),
    Rule(
        code="os.write",
        severity="fail",
        looks_at="whether the home directory, /tmp and /dev/shm can be written",
        judge=_write,
        symptom="logs and checkpoints are lost",
        fix="mount it read-write, or give the directory to the user",
    ),
    Rule(
        code="os.memlock",
        severity="fail",
        looks_at="locked memory of the very session a run would get, where RDMA is used",
        judge=_memlock,
        symptom="ibv_reg_mr fails, and NCCL stops or falls back to TCP",
        fix="echo '* - memlock unlimited' | sudo tee /etc/security/limits.d/rdma.conf; log in again",
    ),
    Rule(
        code="os.nofile",
        severity="warn",
        looks_at="open files per process against the size of the run",
        judge=_nofile,
        symptom="“Too many open files” while the ranks connect",
        fix="echo '* - nofile 131072' | sudo tee /etc/security/limits.d/nofile.conf; log in again",
    ),
    Rule(
        code="os.stack",
        severity="warn",
        looks_at="an unlimited stack together with an NCCL older than 2.28",
        judge=_stack,
        symptom="a segmentation fault while NCCL starts",
        fix="ulimit -s 8192",
    ),
)

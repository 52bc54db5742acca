"""File systems that a run writes to, and memory that processes share."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.checks.remedy import Remedy, account, path, safe, shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Verdict
from clusterctl.checks.safe import MakeDirectory
from clusterctl.facts.machine import Filesystem
from clusterctl.facts.model import Facts

MIB = 1024**2
GIB = 1024**3

SHM_FAIL = 32 * MIB
SHM_FAIL_NCCL = 64 * MIB
SHM_WARN = 64 * MIB
SHM_WARN_NCCL = GIB
"""NCCL's own guide asks for 1 GiB; without GPUs only DataLoader workers use it."""

FREE_FAIL = GIB
FREE_FAIL_USED = 0.50
"""A file system that is small and empty was made so; one that is half full and has less than 1 GiB left is
running out."""
FULL = 0.95
FULL_FREE = 10 * GIB
FILLING = 0.80
FILLING_FREE = 20 * GIB
INODES_FAIL = 2.0
INODES_WARN = 5.0
MOST_NAMED = 1000


def size(count: float) -> str:
    if count < MIB:
        return f"{count / 1024:.0f} KiB"
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def _filesystem(facts: Facts, role: str) -> Filesystem | None:
    return next((entry for entry in facts.filesystems if entry.role == role), None)


def _shm(evidence: Evidence) -> Iterator[Verdict]:
    fail, warn = (SHM_FAIL_NCCL, SHM_WARN_NCCL) if evidence.has_gpus else (SHM_FAIL, SHM_WARN)
    for host, facts in evidence.facts.items():
        shm = _filesystem(facts, "shm")
        if shm is None or not shm.exists:
            yield NotKnown(host, "/dev/shm is not mounted or not readable")
        elif not shm.writable:
            yield Blocked(host, "/dev/shm is not writable")
        elif shm.free < warn:
            yield Hit(
                hosts=(host,),
                observed=f"{size(shm.free)} free of {size(shm.total)} in /dev/shm",
                expected=f"{size(warn)} or more",
                severity="fail" if shm.free < fail else "warn",
                cause="small",
            )


def _shm_stale(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        if facts.stale_shm:
            yield Hit(
                hosts=(host,),
                observed=f"{len(facts.stale_shm)} segment(s) in /dev/shm without an owner",
                fix=_removed(facts.stale_shm),
                cause="stale",
            )


def _removed(segments: tuple[str, ...]) -> Remedy:
    named = tuple(
        each if path(each) and each.rpartition("/")[0] == "/dev/shm" else None
        for each in segments[:MOST_NAMED]
    )
    more = len(segments) - len(named)
    return shell(
        f"rm -f{' {}' * len(named)}", values=named, advice=f"run doctor again: {more} more" if more else ""
    )


def _disk(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        disks = [entry for entry in facts.filesystems if entry.role not in ("shm", "run", "workdir")]
        if not disks:
            yield NotKnown(host, "no file system could be read")
        worst: dict[str, Hit] = {}
        for disk in disks:
            if not disk.exists:
                yield Blocked(host, f"{disk.path} does not exist")
                continue
            found = None if disk.read_only else _fullness(host, disk)
            if found:
                worst.setdefault(disk.device or disk.path, found)
        yield from worst.values()


def _fullness(host: str, disk: Filesystem) -> Hit | None:
    used = 1 - disk.free / disk.total if disk.total else 0.0
    inodes = disk.inodes_free_percent if disk.inodes_free_percent is not None else 100.0
    full = (disk.free < FREE_FAIL and used >= FREE_FAIL_USED) or (used >= FULL and disk.free < FULL_FREE)
    filling = used >= FILLING and disk.free < FILLING_FREE
    if full or filling:
        observed = f"{disk.path}: {size(disk.free)} free ({used:.0%} used)"
    elif inodes < INODES_WARN:
        observed = f"{disk.path}: {inodes:.0f} % of the inodes free"
    else:
        return None
    find = "du -xh --max-depth=2 {} | sort -h | tail"
    if not (full or filling):
        find = "du -x --inodes --max-depth=2 {} | sort -n | tail"
    return Hit(
        hosts=(host,),
        observed=observed,
        expected="room for checkpoints and logs",
        severity="fail" if full or inodes < INODES_FAIL else "warn",
        fix=shell(find, values=(path(disk.path),), looks=True),
        cause=f"{disk.path} {'space' if full or filling else 'inodes'}",
    )


def _write(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        if _filesystem(facts, "home") is None:
            yield NotKnown(host, "its home directory")
        for entry in facts.filesystems:
            if not entry.exists and entry.role in ("home", "tmp"):
                where = "the home directory" if entry.role == "home" else "TMPDIR"
                yield Hit(
                    hosts=(host,),
                    observed=f"{where} {entry.path} does not exist",
                    expected=f"a directory that {facts.user} may write to",
                    severity="fail" if entry.role == "home" else "warn",
                    fix=_made(facts, entry),
                )
            elif entry.exists and entry.role in ("home", "tmp", "shm") and not entry.writable:
                squashed = entry.kind.startswith("nfs") and facts.uid == 0 and not entry.read_only
                yield Hit(
                    hosts=(host,),
                    observed=f"{entry.path} is not writable for {facts.user}"
                    + ", whom its NFS server takes for nobody (root_squash)" * squashed,
                    fix="log in as the user whose directory it is, not as root"
                    if squashed
                    else _writable(facts, entry),
                )


def _made(facts: Facts, entry: Filesystem) -> Remedy:
    """A home belongs to root's world; what TMPDIR names the user may make."""
    place = path(entry.path)
    if entry.role == "home":
        return shell("sudo install -d -m 700 -o {} {}", values=(account(facts.user), place))
    return safe(MakeDirectory(place)) if place else shell("mkdir {}", values=(None,))


def _writable(facts: Facts, entry: Filesystem) -> Remedy:
    place = path(entry.path)
    if entry.read_only:
        return _remounted("rw", place)
    if entry.role == "shm" or entry.path in ("/tmp", "/var/tmp"):
        return shell("sudo chmod 1777 {}", values=(place,))
    return shell("sudo chown {} {}", "sudo chmod u+rwx {}", values=(account(facts.user), place, place))


def _remounted(option: str, place: str | None) -> Remedy:
    """The mount that ``place`` lies in, which need not begin there."""
    return shell(
        f'sudo mount -o remount,{option} "$(findmnt -fno TARGET -T {{}})"', values=(place,), until_boot=True
    )


def _noexec(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        for entry in facts.filesystems:
            if entry.exists and entry.noexec and entry.role in ("tmp", "home"):
                yield Hit(
                    hosts=(host,),
                    observed=f"{entry.path} is mounted noexec",
                    fix=_remounted("exec", path(entry.path)),
                )


RULES: tuple[Rule, ...] = (
    Rule(
        code="os.shm",
        severity="fail",
        looks_at="free space in /dev/shm",
        judge=_shm,
        needs=("disks", "gpus"),
        symptom="“failed to extend /dev/shm/nccl-…”, or a DataLoader worker killed by a bus error",
        fix=shell(
            "sudo mount -o remount,size=8G /dev/shm",
            instead=("in a container, start it with --shm-size=8g",),
            until_boot=True,
        ),
    ),
    Rule(
        code="os.shm-stale",
        severity="warn",
        looks_at="NCCL's and torch's segments in /dev/shm whose owner is gone",
        judge=_shm_stale,
        needs=("shared memory",),
        symptom="/dev/shm fills up over the runs",
    ),
    Rule(
        code="os.disk",
        severity="fail",
        looks_at="free space and inodes of /, /tmp, the home directory and Hugging Face's cache",
        judge=_disk,
        needs=("disks",),
        symptom="writing a checkpoint fails hours into the run",
    ),
    Rule(
        code="os.write",
        severity="fail",
        looks_at="whether the home directory, /tmp and /dev/shm exist and can be written",
        judge=_write,
        needs=("disks",),
        symptom="logs and checkpoints are lost",
        fix="give the directory to the user, or mount it read-write",
    ),
    Rule(
        code="os.noexec",
        severity="warn",
        looks_at="/tmp and the home directory mounted noexec",
        judge=_noexec,
        needs=("disks",),
        symptom="what Triton or DeepSpeed compile there does not load: “failed to map segment from shared "
        "object”",
    ),
)

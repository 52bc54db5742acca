"""Directories that hosts share, options of NFS that hurt a run, and the kernel's own file systems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from clusterctl.checks.finding import Severity
from clusterctl.checks.remedy import path, shell
from clusterctl.checks.rule import Evidence, Hit, Rule, Skipped, Verdict
from clusterctl.facts.machine import Filesystem
from clusterctl.facts.model import Facts

LONG_CACHE = 120
"""Seconds; the kernel keeps attributes of a file for 60 at most unless it is told otherwise."""

_ROLES = {"home": "the home directory", "workdir": "the working directory"}
_NFS = ("nfs", "nfs4")


def _shared(evidence: Evidence) -> Iterator[Verdict]:
    asked = False
    for role, name in _ROLES.items():
        entries = {
            host: entry
            for host, facts in evidence.facts.items()
            for entry in facts.filesystems
            if entry.role == role and entry.exists
        }
        asked = asked or any(entry.options for entry in entries.values())
        yield from _groups(evidence, entries, name)
        for host, entry in entries.items():
            yield from _options(host, entry)
    if not asked:
        yield Skipped("nothing that a run uses lies on a network file system")


def _groups(evidence: Evidence, entries: Mapping[str, Filesystem], name: str) -> Iterator[Verdict]:
    """A host without what most others share finds neither checkpoints nor code there; the server itself has
    them on a disk of its own."""
    groups: defaultdict[tuple[object, ...], list[str]] = defaultdict(list)
    for host, entry in entries.items():
        if entry.options:
            groups[_what(entry)].append(host)
    most = max(groups.values(), key=len, default=[])
    if len(most) < 2:
        return
    first = entries[most[0]]
    for host, entry in entries.items():
        if host in most or len(most) * 2 <= len(entries) or _serves(evidence, host, first):
            continue
        yield Hit(
            hosts=(host,),
            observed=f"{name} {entry.path} is on {entry.source or 'a disk of its own'}",
            expected=f"{first.source}, as on {len(most)} of {len(entries)} hosts",
            fix=shell(
                "findmnt -T {}", values=(path(entry.path),), looks=True, advice="mount what the others have"
            ),
            cause=f"apart {name}",
        )


def _what(entry: Filesystem) -> tuple[object, ...]:
    """Equal for one directory, by whatever name of its server."""
    return entry.kind[:3], entry.source.rpartition(":")[2], entry.inode, entry.total


def _serves(evidence: Evidence, host: str, entry: Filesystem) -> bool:
    """Whether ``host`` is the server: by its name or address, or, where that is nobody's here, because it
    exports something."""
    server = entry.source.rpartition(":")[0].strip("[]")
    known = {name: other for other, facts in evidence.facts.items() for name in _names(facts)}
    return known[server] == host if server in known else evidence.facts[host].mounts.exports


def _names(facts: Facts) -> tuple[str, ...]:
    addresses = (each.address for link in facts.interfaces for each in link.addresses)
    return facts.host, facts.hostname, facts.hostname.partition(".")[0], *addresses


def _options(host: str, entry: Filesystem) -> Iterator[Verdict]:
    """What nfs(5) warns of; anything else is how somebody wants it."""
    if entry.kind not in _NFS:
        return
    values = dict(each.partition("=")[::2] for each in entry.options)
    told = (values.get(name, "") for name in ("acregmax", "acdirmax", "actimeo"))
    longest = max((int(value) for value in told if value.isdigit()), default=0)
    if "soft" in values:
        yield _option(host, entry, "soft", "a slow server becomes an error, or a damaged checkpoint")
    if longest > LONG_CACHE:
        yield _option(host, entry, "actimeo", f"what one host writes others see up to {longest} s later")
    if "noac" in values:
        yield _option(host, entry, "noac", "each look at a file asks the server", severity="info")
    if "nolock" in values or values.get("local_lock") in ("all", "flock"):
        yield _option(host, entry, "nolock", "hosts do not see one another's locks", severity="info")


def _option(host: str, entry: Filesystem, name: str, why: str, severity: Severity | None = None) -> Hit:
    return Hit(
        hosts=(host,),
        observed=f"{entry.path} is mounted with {name}: {why}",
        expected="hard, with locks and the kernel's own caching",
        severity=severity,
        fix=f"mount it without {name}, in /etc/fstab or at the automounter",
        cause=f"option {name}",
    )


def _kernel(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        if not facts.mounts.sysfs:
            yield Hit(
                hosts=(host,),
                observed="/sys is not mounted, or tells nothing of networks and devices",
                expected="sysfs, as the kernel has it",
                severity="warn" if evidence.has_gpus else "info",
                cause="sys",
            )
        if facts.mounts.hides_processes and facts.nvidia.gpus:
            yield Hit(
                hosts=(host,),
                observed="/proc hides other users' processes: who holds a GPU is not told",
                severity="info",
                cause="hidepid",
            )


def _null(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        if facts.mounts.null_device:
            yield Hit(
                hosts=(host,),
                observed=f"/dev/null is {facts.mounts.null_device}",
                expected="the kernel's device, open to everybody",
                cause="null",
            )


RULES: tuple[Rule, ...] = (
    Rule(
        code="os.sharedfs",
        severity="warn",
        looks_at="home and working directory on network file systems: one for all hosts, and NFS options",
        judge=_shared,
        needs=("disks",),
        symptom="“checkpoint not found” at a restart, or code that differs between hosts",
    ),
    Rule(
        code="os.sysmount",
        severity="warn",
        looks_at="whether /sys and /proc tell what a run needs to know",
        judge=_kernel,
        needs=("disks", "gpus"),
        symptom="NCCL finds neither the topology nor RDMA, and takes the slowest way",
        fix="in a container, let it have /sys; outside, see what covers it: findmnt /sys",
    ),
    Rule(
        code="os.null",
        severity="fail",
        looks_at="whether /dev/null is the device it should be",
        judge=_null,
        needs=("disks",),
        symptom="“Permission denied” from every script that throws output away, or a disk that fills with it",
        fix=shell("sudo rm -f /dev/null", "sudo mknod -m 666 /dev/null c 1 3"),
    ),
)

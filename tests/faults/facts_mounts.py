"""Directories that hosts share, and those they should: faults and odd clusters."""

from __future__ import annotations

from typing import Any

from clusterctl.facts.machine import Mounts
from tests.fact_sets import Alteration, Case, disk, on

HARD = ("rw", "relatime", "vers=4.2", "hard", "proto=tcp", "timeo=600", "local_lock=none")
EXPORT: dict[str, Any] = {"kind": "nfs4", "source": "filer:/export/home", "options": HARD, "inode": 7}
OWN: dict[str, Any] = {"kind": "ext4", "source": "/dev/nvme0n1p2", "options": (), "inode": 131073}


def homes(hosts: str = "*", *options: str, **changes: Any) -> Alteration:
    return disk(hosts, "home", **{**EXPORT, "options": (*HARD, *options), **changes})


def fault(code: str, name: str, *alter: Alteration, at: str = "node2", **fields: Any) -> Case:
    return Case(name=f"{code}: {name}", alter=alter, expected={code: at}, **fields)


FAULTS = [
    fault("os.sharedfs", "a home that is not the others'", homes(), disk("node2", "home", **OWN)),
    fault("os.sharedfs", "another export", homes(), homes("node2", source="old:/vol/home2", inode=9)),
    fault(
        "os.sharedfs",
        "one host without it, all of them on one kernel that exports",
        homes(source="node1:/export/home"),
        disk("node2", "home", **OWN),
        on("*", mounts=Mounts(exports=True)),
    ),
    fault("os.sharedfs", "soft on one host", homes(), homes("node2", "soft")),
    fault("os.sharedfs", "attributes kept for an hour", homes(), homes("node2", "acregmax=3600")),
    fault(
        "os.write",
        "root on an export that squashes it",
        homes(),
        on("*", user="root", uid=0, home="/root", capabilities=(1 << 41) - 1),
        disk("node2", "home", writable=False),
    ),
    fault("os.sysmount", "no /sys in a container", on("node2", mounts=Mounts(sysfs=False)), gpus=2),
]
ODD = [
    Case(name="one home for all", alter=(homes(),)),
    Case(
        name="homes on one filer by two names",
        alter=(homes(), homes("node2", source="10.9.9.9:/export/home")),
    ),
    Case(
        name="the head serves its own disk as home",
        alter=(homes(source="node1:/export/home"), disk("node1", "home", **OWN)),
    ),
    Case(
        name="the head serves it by an address that nobody knows",
        alter=(homes(), disk("node1", "home", **OWN), on("node1", mounts=Mounts(exports=True))),
    ),
    Case(name="a home of its own on each host", alter=(disk("*", "home", **OWN),)),
    Case(
        name="two hosts share a home and two do not",
        alter=(homes("node1 node2"), disk("node3 node4", "home", **OWN)),
        hosts=4,
    ),
    Case(name="one host alone has a network home", alter=(disk("*", "home", **OWN), homes("node2"))),
    Case(name="NFS without caching or locks", alter=(homes("*", "noac", "nolock"),)),
    Case(name="/proc that hides others", alter=(on("*", mounts=Mounts(hides_processes=True)),), gpus=2),
    Case(name="no /sys on hosts without GPUs", alter=(on("*", mounts=Mounts(sysfs=False)),)),
]

"""Which part of the probe tells which facts: what could not be read is known by its part."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from clusterctl.facts.model import Facts

Section = Literal[
    "system",
    "settings",
    "disks",
    "shared memory",
    "kernel log",
    "logind",
    "interfaces",
    "routes",
    "rdma",
    "names",
    "gpus",
    "python",
    "workdir",
]

_TOLD: Mapping[Section, tuple[str, ...]] = {
    "system": (
        *("hostname", "machine_id", "boot_id", "user", "uid", "home", "shell", "kernel", "os_release"),
        *("architecture", "cpus", "cpus_online", "load", "memory_total", "memory_available"),
        *(
            "cgroup",
            "capabilities",
            "connections",
            "neighbours",
            "reboot_required",
            "login",
            "path",
            "limits",
        ),
        *("ssh_address", "ssh_peer"),
    ),
    "settings": ("variables", "accelerate_config"),
    "disks": ("filesystems", "shared_token", "mounts"),
    "shared memory": ("stale_shm",),
    "kernel log": ("kernel_log",),
    "logind": ("logind",),
    "interfaces": ("interfaces",),
    "routes": ("default_device", "port_range", "firewall", "vendor", "product"),
    "rdma": ("rdma", "verbs_library", "verbs_devices", "peer_memory"),
    "names": ("names",),
    "gpus": ("nvidia",),
    "python": ("python", "compilers", "probe_python"),
    "workdir": ("workdir_exists",),
}
_SECTION_OF = {field: section for section, fields in _TOLD.items() for field in fields}


def untold(fields: Collection[str], errors: Collection[str]) -> tuple[str, ...]:
    """Errors for the parts of which an answer with these ``fields`` holds nothing and says no reason."""
    excused = {error.partition(": ")[0] for error in errors}
    return tuple(
        f"{section}: the host told nothing of it"
        for section, told in _TOLD.items()
        if section not in excused and not any(field in fields or field in excused for field in told)
    )


def unread(facts: Facts) -> dict[Section, str]:
    """The parts of which something could not be read there, and why."""
    found: dict[Section, str] = {}
    for error in facts.errors:
        what, _, why = error.partition(": ")
        section = what if what in _TOLD else _SECTION_OF.get(what)
        if section is not None:
            found.setdefault(section, why)  # type: ignore[arg-type]
    return found

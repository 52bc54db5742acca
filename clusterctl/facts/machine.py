"""What a machine leaves to a session: file systems, limits, control groups, logind, the kernel's log."""

from __future__ import annotations

import msgspec


class Cgroup(msgspec.Struct, frozen=True, kw_only=True):
    """What the control groups of the SSH session leave to it; None where they set no limit."""

    memory: int | None = None
    memory_path: str = ""
    """The group that sets ``memory``."""
    pids: int | None = None
    cpus: float | None = None


class Logind(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to a user's things when the last session of theirs ends; None where nobody said."""

    remove_ipc: bool | None = None
    kill_processes: bool | None = None
    linger: bool = False
    session: bool | None = None
    """Whether our own processes are in the scope of a session that logind keeps."""


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """From the login shell's start to the first line of the probe: seconds, and those of CPU time in them."""

    seconds: float
    cpu: float = 0.0


class Xid(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the NVIDIA driver in the kernel log. ``device`` is a PCI address, ``age`` seconds."""

    code: int
    device: str
    age: float
    text: str = ""


class OomKill(msgspec.Struct, frozen=True, kw_only=True):
    """A process that the kernel killed for memory, and for which control group ("" is the whole machine)."""

    command: str
    age: float
    cgroup: str = ""


class KernelLog(msgspec.Struct, frozen=True, kw_only=True):
    """``error`` says why this user may not read the log; the rest is empty then."""

    error: str = ""
    xids: tuple[Xid, ...] = ()
    switch_faults: tuple[Xid, ...] = ()
    """The same of NVSwitches (SXid), those that the driver calls fatal."""
    oom_kills: tuple[OomKill, ...] = ()


class Filesystem(msgspec.Struct, frozen=True, kw_only=True):
    """``role`` is what the path is for: root, tmp, home, shm, run, workdir, cache (Hugging Face's).

    ``kind``, ``source`` and ``options`` are those of the mount it lies in, ``inode`` its number there.
    """

    role: str
    path: str
    total: int
    free: int
    inodes_free_percent: float | None = None
    writable: bool = True
    device: str = ""
    read_only: bool = False
    noexec: bool = False
    kind: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    inode: int = 0
    exists: bool = True
    """False where nothing lies at ``path``: no figure means anything then."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Soft limits of the very SSH session that a run would get; None means unlimited."""

    memlock: int | None = None
    nofile: int | None = None
    stack: int | None = None
    nproc: int | None = None
    file_size: int | None = None
    """Of one file, in bytes."""
    cpu_time: int | None = None
    """Of one process, in seconds."""
    address_space: int | None = None


class Mounts(msgspec.Struct, frozen=True, kw_only=True):
    """What of the kernel's own file systems this session sees."""

    sysfs: bool = True
    """/sys tells of networks and devices."""
    hides_processes: bool = False
    """/proc does not show other users' processes."""
    exports: bool = False
    """The host is an NFS server itself."""
    null_device: str = ""
    """What /dev/null is where it is not the kernel's device."""

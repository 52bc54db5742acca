"""Memory of the host: RAM, limits, /dev/shm."""

from __future__ import annotations

from clusterctl.advise.signature import Signature

_LESS = "fewer data loader workers, or less that each rank loads for itself"
_BIGGER = (
    "sudo mount -o remount,size=50% /dev/shm on {host} (in a container: --shm-size 16g), or fewer workers"
)

MEMORY = (
    Signature(
        code="memory.limit",
        source="end",
        sign=(
            "killed by the kernel: the memory limit",
            "killed by the kernel: a control group",
            "the engine: the memory limit",
            "the engine: a control group",
        ),
        pattern=r"(?P<limit>(?:the|a) (?:memory limit of )?control group.*?)(?:'s memory limit)?$",
        means="the kernel killed it, because {limit} is used up[; it held {peak} at its peak]",
        hint=_LESS + " on {host}; or raise the limit there (systemd: MemoryMax of the session or user slice; "
        "a container: --memory)",
    ),
    Signature(
        code="memory.host",
        source="end",
        sign=("killed by the kernel: the host's memory", "the engine: the host's memory"),
        means="the memory of {host} was used up, and the kernel killed this rank[; it held {peak} at its "
        "peak]",
        hint=_LESS + "; who else is there: clusterctl exec -i {host} -- ps -eo rss,user,args --sort=-rss",
    ),
    Signature(
        code="memory.shm",
        sign=(
            "is killed by signal: Bus error",
            "out of shared memory",
            "unable to allocate shared memory(shm)",
            "unable to write to file </torch_",
            "failed to extend /dev/shm",
        ),
        detail=r"worker \(pid\(?s?\)? (?P<pid>\d+)\)",
        means="/dev/shm of {host} is full, and there a data loader[ (process {pid})] hands its batches over",
        hint="clusterctl exec -i {host} -- df -h /dev/shm; " + _BIGGER,
    ),
    Signature(
        code="memory.worker-killed",
        sign=("is killed by signal: Killed",),
        pattern=r"worker \(pid\(?s?\)? (?P<pid>\d+)\)",
        means="somebody killed data loader process {pid} with SIGKILL; lack of memory is likely, but a "
        "bare "
        "`Killed` proves nothing",
        hint="what the kernel says (as root): journalctl -k --since -1h | grep -i kill, on {host}; " + _LESS,
    ),
    Signature(
        code="memory.locked",
        sign=("ibv_reg_mr", "ibv_create_qp", "ibv_create_cq"),
        pattern=r"(?P<what>ibv_\w+).*(?:failed|Cannot allocate memory)",
        means="RDMA could not lock memory ({what}): the limit of locked memory is too small in this session",
        hint="clusterctl doctor -i {host} --only os.memlock; `* - memlock unlimited` in "
        "/etc/security/limits.conf, then log in anew",
    ),
    Signature(
        code="memory.host-allocation",
        sign=(
            "DefaultCPUAllocator: can't allocate memory",
            "DefaultCPUAllocator: not enough memory",
            "MemoryError",
            "Cannot allocate memory",
            "std::bad_alloc",
        ),
        detail=r"you tried to allocate (?P<asked>\d+ bytes)|Unable to allocate (?P<asked2>[\d.]+ \w+)",
        means="{host} could not give the memory[: {asked} were asked for]",
        hint=_LESS + "; limits and free memory there: clusterctl exec -i {host} --shell 'free -g; ulimit -v'",
    ),
    Signature(
        code="memory.removed-at-logout",
        sign=("FileNotFoundError: [Errno 2]",),
        near=r"SemLock\._rebuild",
        means="a semaphore in /dev/shm is gone while the run needs it: systemd-logind removes what a "
        "user has "
        "there when the user's last session on {host} ends",
        hint="on {host}: loginctl enable-linger, or RemoveIPC=no in /etc/systemd/logind.conf; "
        "clusterctl doctor --only os.logout",
    ),
    Signature(
        code="memory.removed-at-logout",
        sign=(
            "shared memory file </torch_",
            "shared memory file /torch_",
            "open shared memory object </torch_",
        ),
        pattern=r"(?P<file>/torch_\w+)",
        near=r"No such file or directory|\(2\)|could not unlink",
        means="the shared memory {file} is gone while the run needs it: systemd-logind removes what a "
        "user has "
        "in /dev/shm when the user's last session on {host} ends",
        hint="on {host}: loginctl enable-linger, or RemoveIPC=no in /etc/systemd/logind.conf; "
        "clusterctl doctor --only os.logout",
    ),
    Signature(
        code="memory.threads",
        sign=("can't start new thread", "Resource temporarily unavailable", "pthread_create failed"),
        means="the user may not have more processes and threads on {host}",
        hint="clusterctl exec -i {host} --shell 'ulimit -u'; more: nproc in /etc/security/limits.conf; "
        "threads "
        "per rank: OMP_NUM_THREADS",
    ),
)

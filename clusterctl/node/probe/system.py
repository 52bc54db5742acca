"""The machine, its user, limits, disks and the settings that reach processes there."""

import os
import pwd
import re
import resource

from ..shared.files import listing, read
from . import machine, mounts

PREFIXES = ("NCCL_", "GLOO_", "TP_", "UCX_", "TORCH_NCCL_", "TORCH_DISTRIBUTED_", "MASTER_")
NAMES = (
    "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "LD_PRELOAD", "OMP_NUM_THREADS",
    "WORLD_SIZE", "RANK", "LOCAL_RANK", "HF_HUB_OFFLINE", "CUDA_DEVICE_ORDER",
    "TRITON_CACHE_DIR", "TRITON_HOME", "TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR",
    *(name for low in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for name in (low, low.upper())),
)  # fmt: skip
SEGMENTS = ("nccl-", "torch_")


def system():
    uname = os.uname()
    uid = os.getuid()
    try:
        account = pwd.getpwuid(uid)
    except KeyError:  # containers run as users that no passwd file knows
        account = pwd.struct_passwd((str(uid), "", uid, os.getgid(), "", "", ""))
    memory = dict(line.split(":", 1) for line in read("/proc/meminfo").splitlines() if ":" in line)
    client = os.environ.get("SSH_CONNECTION", "").split()
    return {
        "hostname": uname.nodename,
        "machine_id": read("/etc/machine-id"),
        "boot_id": read("/proc/sys/kernel/random/boot_id"),
        "user": account.pw_name,
        "uid": account.pw_uid,
        "home": os.environ.get("HOME", account.pw_dir),
        "shell": account.pw_shell,
        "kernel": uname.release,
        "os_release": _pretty_name(read("/etc/os-release")),
        "architecture": uname.machine,
        "cpus": len(os.sched_getaffinity(0)),
        "memory_total": _kilobytes(memory.get("MemTotal", "0")),
        "memory_available": _kilobytes(memory.get("MemAvailable", "0")),
        "path": os.environ.get("PATH", ""),
        "ssh_address": _plain(client[2]) if len(client) == 4 else "",
        "ssh_peer": _plain(client[0]) if len(client) == 4 else "",
        "limits": limits(),
        **machine.machine(),
    }


def _pretty_name(text):
    for line in text.splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip("\"'")
    return ""


def _kilobytes(text):
    return int(text.split()[0]) * 1024


def _plain(address):
    address = address.partition("%")[0]
    return address[7:] if address.startswith("::ffff:") else address


def limits():
    def soft(which):
        value = resource.getrlimit(which)[0]
        return None if value == resource.RLIM_INFINITY else value

    return {
        "memlock": soft(resource.RLIMIT_MEMLOCK),
        "nofile": soft(resource.RLIMIT_NOFILE),
        "stack": soft(resource.RLIMIT_STACK),
        "nproc": soft(resource.RLIMIT_NPROC),
        "file_size": soft(resource.RLIMIT_FSIZE),
        "cpu_time": soft(resource.RLIMIT_CPU),
        "address_space": soft(resource.RLIMIT_AS),
    }


def filesystems(environ=None, workdir=""):
    environ = os.environ if environ is None else environ
    home = environ.get("HOME", "/")
    runs = home + "/.clusterctl"
    places = {
        "root": "/",
        "tmp": environ.get("TMPDIR", "/tmp"),
        "home": home,
        "shm": "/dev/shm",
        "run": runs if os.path.isdir(runs) else home,
    }
    further = {
        "workdir": os.path.expanduser(workdir),
        "cache": environ.get("HF_HOME", home + "/.cache/huggingface"),
    }
    places.update({role: path for role, path in further.items() if path and os.path.isdir(path)})
    table = mounts.table(read("/proc/mounts"))
    found = [
        _filesystem(role, path, table) if os.path.isdir(path) else _missing(role, path)
        for role, path in places.items()
    ]
    return {
        "filesystems": found,
        "shared_token": shared_token(home, table),
        "mounts": mounts.kernel(),
    }


def shared_token(path, table):
    """Equal on hosts that see ``path`` on one network filesystem; "" where it lies on a local one.

    What was mounted and the file's number there: nothing is written to find out.
    """
    real = os.path.realpath(path)
    mount = mounts.of(real, table)
    return "%s %s %d" % (mount["kind"], mount["source"], os.stat(real).st_ino) if mounts.shared(mount) else ""


def _missing(role, path):
    return {"role": role, "path": path, "total": 0, "free": 0, "writable": False, "exists": False}


def _filesystem(role, path, table):
    space = os.statvfs(path)
    mount = mounts.of(os.path.realpath(path), table)
    return {
        "role": role,
        "path": path,
        "total": space.f_blocks * space.f_frsize,
        "free": space.f_bavail * space.f_frsize,
        # btrfs and others make inodes as they go and say 0.
        "inodes_free_percent": round(100.0 * space.f_favail / space.f_files, 1) if space.f_files else None,
        "writable": _writable(path),
        "device": str(os.stat(path).st_dev),
        "read_only": bool(space.f_flag & os.ST_RDONLY),
        "noexec": bool(space.f_flag & os.ST_NOEXEC),
        "kind": mount["kind"],
        "source": mount["source"],
        "options": mount["options"] if mounts.shared(mount) else [],
        "inode": os.stat(path).st_ino,
    }


def _writable(path):
    """Tries it: access() believes an NFS server's mode bits. A nameless file leaves nothing behind."""
    try:
        os.close(os.open(path, os.O_TMPFILE | os.O_WRONLY, 0o600))
    except OSError:
        return os.access(path, os.W_OK | os.X_OK)
    return True


def stale_segments(root="/dev/shm"):
    """Segments of ours that no process has mapped or open any more."""
    ours = [
        "%s/%s" % (root, name)
        for name in listing(root)
        if name.startswith(SEGMENTS) and _is_ours("%s/%s" % (root, name))
    ]
    if not ours:
        return {"stale_shm": []}
    used: set[str] = set()
    for pid in listing("/proc"):
        if pid.isdigit():
            maps = read("/proc/%s/maps" % pid)
            used.update(path for path in ours if path in maps)
            used.update(_open_files(pid).intersection(ours))
    return {"stale_shm": [path for path in ours if path not in used]}


def _is_ours(path):
    try:
        return os.stat(path).st_uid == os.getuid()
    except OSError:
        return False


def _open_files(pid):
    found = set()
    for descriptor in listing("/proc/%s/fd" % pid):
        try:
            found.add(os.readlink("/proc/%s/fd/%s" % (pid, descriptor)))
        except OSError:
            continue
    return found


def settings(environ, activated=()):
    """Variables that steer NCCL, Gloo and the launchers, with where each comes from.

    ``activated`` are the names that the activation line has set.
    """
    found = [
        [name, environ[name], "activation line" if name in activated else "environment"]
        for name in sorted(environ)
        if _steers(name)
    ]
    home = environ.get("HOME", "")
    own = environ.get("NCCL_CONF_FILE", home + "/.nccl.conf")
    for path in (own, "/etc/nccl.conf", home + "/.deepspeed_env"):
        for position, line in enumerate(read(path).splitlines(), 1):
            name, equals, value = line.partition("=")
            if equals and _steers(name.strip()):
                found.append([name.strip(), value.strip(), "%s:%d" % (path, position)])
    return {
        "variables": [{"name": n, "value": _without_login(v), "origin": origin} for n, v, origin in found],
        "accelerate_config": accelerate_config(environ),
    }


def _without_login(value):
    """A proxy's URL may hold a password."""
    return re.sub(r"(\w://)[^/@\s]*@", r"\1***@", value)


def accelerate_config(environ):
    """The settings of accelerate's default file, but for the machine's own rank."""
    cache = environ.get("HF_HOME") or environ.get("HOME", "") + "/.cache/huggingface"
    lines = read(cache + "/accelerate/default_config.yaml").splitlines()
    kept = sorted(line.strip() for line in lines if re.match(r"[a-z_]+:\s*\S", line))
    return ", ".join(line for line in kept if not line.startswith(("machine_rank:", "main_process_")))[:400]


def _steers(name):
    return name.startswith(PREFIXES) or name in NAMES


def workdir(path):
    return {"workdir_exists": os.path.isdir(os.path.expanduser(path)) if path else None}


def progress(pid):
    """(seconds of CPU, bytes read) of a process and the children it has waited for: more while it gets on."""
    fields = read("/proc/%d/stat" % pid).rpartition(")")[2].split()
    ticks = sum(int(field) for field in fields[11:15])
    taken = re.search(r"rchar: (\d+)", read("/proc/%d/io" % pid))
    return ticks / os.sysconf("SC_CLK_TCK"), int(taken.group(1)) if taken else 0

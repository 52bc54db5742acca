"""What the machine leaves to an SSH session: control groups, logind, capabilities, start-up files."""

import glob
import os
import re

from ..shared.files import listing, number, read, which

CGROUPS = "/sys/fs/cgroup"
UNLIMITED = 1 << 60
"""Version 1 of the control groups writes a huge number where there is no limit."""
LOGIND_TIMEOUT = 3.0
LOGIND = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")


def machine():
    return {
        "cpus_online": os.cpu_count() or 0,
        "load": _load(read("/proc/loadavg")),
        "cgroup": cgroup(read("/proc/self/cgroup")),
        "capabilities": capabilities(read("/proc/self/status"), read("/proc/self/uid_map")),
        "connections": connections(),
        "neighbours": number("/proc/sys/net/ipv4/neigh/default/gc_thresh3"),
        "reboot_required": reboot_required(),
        "login": login(),
    }


def connections(root="/proc/sys/net/netfilter"):
    count, most = number(root + "/nf_conntrack_count"), number(root + "/nf_conntrack_max")
    return [count, most] if count is not None and most else None


def _load(text):
    return float(text.split()[1]) if len(text.split()) > 1 else None


def capabilities(status, uid_map):
    """Effective ones; none in a user namespace, where those that lift a limit mean nothing to the kernel."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    if found and uid_map.split() not in ([], ["0", "0", "4294967295"]):
        return 0
    return int(found.group(1), 16) if found else None


def cgroup(text, root=CGROUPS):
    """The tightest limits on the way from the session's own groups up to the root."""
    found: dict[str, object] = {"memory": None, "memory_path": "", "pids": None, "cpus": None}
    for line in text.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        names = controllers.split(",")
        if not controllers:
            _tighten(found, root, path, "memory.max", "pids.max", _cpu_max)
        if "memory" in names:
            _tighten(found, root + "/memory", path, "memory.limit_in_bytes", "", None)
        if "pids" in names:
            _tighten(found, root + "/pids", path, "", "pids.max", None)
        if "cpu" in names:
            _tighten(found, "%s/%s" % (root, controllers), path, "", "", _cpu_quota)
    return found


def _tighten(found, root, path, memory_file, pids_file, cpus):
    while True:
        base = root + path.rstrip("/")
        memory = number("%s/%s" % (base, memory_file)) if memory_file else None
        if memory is not None and memory < min(UNLIMITED, found["memory"] or UNLIMITED):
            found["memory"], found["memory_path"] = memory, path
        pids = number("%s/%s" % (base, pids_file)) if pids_file else None
        if pids is not None and pids < (found["pids"] or UNLIMITED):
            found["pids"] = pids
        quota = cpus(base) if cpus else None
        if quota is not None and quota < (found["cpus"] or UNLIMITED):
            found["cpus"] = quota
        if path in ("", "/"):
            return
        path = os.path.dirname(path)


def _cpu_max(base):
    quota, _, period = read(base + "/cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _cpu_quota(base):
    quota, period = number(base + "/cpu.cfs_quota_us"), number(base + "/cpu.cfs_period_us")
    return quota / period if quota and quota > 0 and period else None


def reboot_required(root=""):
    """What an upgrade has left in Debian's and Ubuntu's flag file, or ""."""
    flags = [root + place + "/reboot-required" for place in ("/run", "/var/run")]
    flag = next((path for path in flags if os.path.exists(path)), "")
    if not flag:
        return ""
    packages = list(dict.fromkeys(read(flag + ".pkgs").split()))
    return "%s upgraded" % ", ".join(packages[:4]) if packages else "packages upgraded"


def login():
    """What the start-up files took: the login shell, which became our parent by exec, began then, and we when
    it was through with them."""
    own, shell = _process("self"), _process(os.getppid())
    if own is None or shell is None or shell["name"].startswith(("sshd", "dropbear")):
        return None
    return {"seconds": round(max(0.0, own["start"] - shell["start"]), 2), "cpu": round(shell["cpu"], 2)}


def _process(pid):
    """Seconds of a process: its start, since boot, and its CPU time with its children's that have ended."""
    head, _, tail = read("/proc/%s/stat" % pid).rpartition(")")
    fields, tick = tail.split(), os.sysconf("SC_CLK_TCK")
    if len(fields) < 20:
        return None
    return {
        "name": head.partition("(")[2],
        "start": int(fields[19]) / tick,
        "cpu": sum(map(int, fields[11:15])) / tick,
    }


def logind(environ, root=""):
    """What logind does at logout, as far as it or its files say; None where there is none."""
    told = _told_by_logind(environ) if os.path.isdir(root + "/run/systemd/system") else {}
    places = ("/usr/lib", "/run", "/etc")
    files = [root + place + "/systemd/logind.conf" for place in places]
    for place in places:
        files += sorted(glob.glob(root + place + "/systemd/logind.conf.d/*.conf"))
    written: dict[str, bool] = {}
    for path in files:
        for name, value in re.findall(r"^\s*(\w+)\s*=\s*(\w+)", read(path), re.MULTILINE):
            written[name] = value.lower() in ("yes", "true", "1", "on")
    said = dict(written, **told)
    if "RemoveIPC" not in said and "KillUserProcesses" not in said:
        return {"logind": None}
    import pwd

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return {
        "logind": {
            "remove_ipc": said.get("RemoveIPC"),
            "kill_processes": said.get("KillUserProcesses"),
            "linger": user in listing(root + "/var/lib/systemd/linger"),
            "session": bool(re.search(r"/session-[^/]+\.scope", read("/proc/self/cgroup"))),
        }
    }


def _told_by_logind(environ):
    """The properties as the running logind has them: defaults differ between distributions."""
    import subprocess

    tool = which("busctl", environ.get("PATH", "") + ":/usr/bin:/bin")
    if not tool:
        return {}
    names = ("RemoveIPC", "KillUserProcesses")
    try:
        done = subprocess.run(
            [tool, "get-property", *LOGIND, *names],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LOGIND_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = re.findall(r"^b (true|false)$", done.stdout.decode("utf-8", "replace"), re.MULTILINE)
    if len(values) != len(names):
        return {}
    return {name: values[position] == "true" for position, name in enumerate(names)}

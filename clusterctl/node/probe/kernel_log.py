"""NVIDIA's complaints and processes killed for memory, where this user may read the kernel's log."""

import re
import time

from ..shared.files import which

LOG_TIMEOUT = 4.0
TOOLS = (("dmesg", ()), ("journalctl", ("-k", "-b", "-q", "-o", "short-monotonic", "--no-pager")))
MOST = 64
TELLING = ("Xid", "oom-kill", "ut of memory")
XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)(?:, (.*))?")
SXID = re.compile(r"SXid \(PCI:([0-9a-fA-F:.]+)\): (\d+), (.*)")
OOM_GROUP = re.compile(r"oom-kill:.*constraint=(\w+).*?task_memcg=([^,\s]*)")
OOM = re.compile(r"(Memory cgroup out of memory|Out of memory).*?[Kk]illed? process \d+ \(([^)]*)\)")
LINE = re.compile(r"\[\s*(\d+\.\d+)\]\s?(.*)")


def kernel_log(environ):
    text, error = "", "no dmesg and no journalctl here"
    for name, arguments in TOOLS:
        tool = which(name, environ.get("PATH", "") + ":/usr/bin:/bin:/usr/sbin:/sbin")
        if tool:
            text, error = _run([tool, *arguments], environ)
            if text and not error:
                break
    if error:
        return {"kernel_log": {"error": error}}
    return {"kernel_log": parse(text, time.clock_gettime(time.CLOCK_BOOTTIME))}


def parse(lines, now):
    """``lines`` as dmesg or the journal with monotonic times shows it; ``now`` is seconds since boot."""
    xids, switches, kills, cgroup = [], [], [], ""
    for line in lines.splitlines():
        stamped = LINE.search(line) if any(word in line for word in TELLING) else None
        if not stamped:
            continue
        age = round(max(0.0, now - float(stamped.group(1))), 1)
        said = stamped.group(2)
        found = XID.search(said)
        if found:
            device, code, text = found.groups()
            xids.append({"code": int(code), "device": device, "age": age, "text": (text or "")[:120]})
        found = SXID.search(said)
        if found and re.search(r"\bFatal\b", said) and "Non-fatal" not in said:
            device, code, text = found.groups()
            switches.append({"code": int(code), "device": device, "age": age, "text": text[:120]})
        group = OOM_GROUP.search(said)
        if group:
            cgroup = group.group(2) if group.group(1) == "CONSTRAINT_MEMCG" else ""
        killed = OOM.search(said)
        if killed:
            limited = killed.group(1).startswith("Memory cgroup")
            kills.append(
                {"command": killed.group(2), "age": age, "cgroup": (cgroup or "unknown") if limited else ""}
            )
            cgroup = ""
    return {
        "error": "",
        "xids": xids[-MOST:],
        "switch_faults": switches[-MOST:],
        "oom_kills": kills[-MOST:],
    }


def _run(argv, environ):
    """(text, why there is none)."""
    import subprocess

    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=LOG_TIMEOUT,
            env=environ,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", "%s: %s" % (argv[0], error)
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done.returncode or (not done.stdout and said):
        return "", said[-1][:200] if said else "%s ended with %d" % (argv[0], done.returncode)
    return done.stdout.decode("utf-8", "replace"), ""

"""One real `import torch` in its own process, under the interpreter that will train.

It runs there as a program (`e2e.program`): a crash or a hang costs that process only, which stays with torch
in it for what is asked next.
"""

import os
import re
import time


def main(order, tell):
    try:
        import torch
    except BaseException as error:  # an extension may raise anything, SystemExit included
        lines = str(error).strip().splitlines() or [""]
        return {"ok": False, "error": "%s: %s" % (type(error).__name__, lines[-1])}
    found = {"ok": True, "blocked": _blocked(), "distributed": torch.distributed.is_available()}
    found.update(_cuda(torch))
    found["nccl_path"] = loaded_nccl()
    return found


def _blocked():
    """Seconds since this process began in which it neither ran nor waited for a core: for its files, mostly.
    None where the kernel does not count them."""
    try:
        with open("/proc/self/schedstat") as counted, open("/proc/self/stat") as stat:
            queued = int(counted.read().split()[1]) / 1e9
            began = int(stat.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
    seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - began
    return round(max(0.0, seconds - queued - time.thread_time()), 2)


def _cuda(torch):
    if torch.version.cuda is None:
        return {"cuda_available": False, "device_count": 0}
    available = torch.cuda.is_available()
    found = {"cuda_available": available, "device_count": torch.cuda.device_count() if available else 0}

    def nccl_version():
        return ".".join(map(str, torch.cuda.nccl.version()))

    def capabilities():
        return ["%d.%d" % torch.cuda.get_device_capability(index) for index in range(found["device_count"])]

    asked = {"nccl_version": nccl_version}
    if available:
        asked.update(bf16=torch.cuda.is_bf16_supported, capabilities=capabilities)
    for what, function in asked.items():
        try:
            found[what] = function()
        except Exception as error:  # a sick GPU says so here; what torch told before stays true
            found["error"] = "%s: %s: %s" % (what, type(error).__name__, error)
    return found


def loaded_nccl():
    """Path of the libnccl that importing torch brought into this process, or ""."""
    with open("/proc/self/maps") as maps:
        paths = re.findall(r"(/\S*libnccl\.so\S*)", maps.read())
    return paths[0] if paths else ""

"""NVIDIA GPUs: what the driver's own tool says, and what the PCI bus shows whether or not it agrees."""

import os
import re
import time

from ..shared.files import listing, owner_of, read, which

SMI_TIMEOUT = 20.0
MIB = 1024 * 1024
DISPLAY = "0x03"
FIELDS = (
    "index", "uuid", "name", "memory.total", "memory.used", "driver_version", "utilization.gpu",
    "compute_mode", "mig.mode.current", "ecc.errors.uncorrected.volatile.total",
)  # fmt: skip
OLDEST_FIELDS = 6
"""How many of them every driver knows."""
SMI_PLACES = ":/usr/bin:/usr/local/bin:/usr/local/nvidia/bin:/usr/lib/wsl/lib"


def nvidia(environ):
    """Everything about NVIDIA GPUs; costs no process where there is no nvidia-smi."""
    found = {
        "devices": devices(),
        "kernel_driver": kernel_driver(read("/proc/driver/nvidia/version")),
    }
    tool = which("nvidia-smi", environ.get("PATH", "") + SMI_PLACES)
    if tool:
        found.update(_ask(tool, environ))
    return {"nvidia": found}


def devices(root="/sys/bus/pci/devices"):
    """Display functions of NVIDIA's on the PCI bus; None where the bus cannot be read."""
    if not os.path.isdir(root):
        return None
    return sum(
        read("%s/%s/vendor" % (root, name)) == "0x10de"
        and read("%s/%s/class" % (root, name)).startswith(DISPLAY)
        for name in listing(root)
    )


def kernel_driver(text):
    """Version of the kernel module, from the first line of /proc/driver/nvidia/version."""
    version = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)*)\s", text)
    return version.group(1) if version else ""


def _ask(tool, environ):
    began = time.monotonic()
    deadline = began + SMI_TIMEOUT

    def run(*arguments):
        return _run([tool, *arguments], environ, deadline)

    code, text = run("--query-gpu=" + ",".join(FIELDS), "--format=csv,noheader,nounits")
    if code == 2 and "not a valid field" in text:
        code, text = run("--query-gpu=" + ",".join(FIELDS[:OLDEST_FIELDS]), "--format=csv,noheader,nounits")
    found = {"present": True, "exit_code": code, "seconds": round(time.monotonic() - began, 3)}
    if code != 0:
        found["error"] = " ".join(text.split())[:300]
        return found
    found["gpus"] = gpus(text)
    if found["gpus"]:
        query = "--query-compute-apps=gpu_uuid,pid,used_memory,process_name"
        code, text = run(query, "--format=csv,noheader,nounits")
        if code == 0:
            add_processes(found["gpus"], text)
        found["cuda"] = _cuda() or cuda_in(run()[1])
    return found


def _run(argv, environ, deadline):
    """(exit code, output); the code is None when the tool had to be killed at the deadline."""
    import subprocess  # here, like ctypes: most of the probe's time goes into imports

    child = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ
    )
    try:
        output = child.communicate(timeout=max(0.1, deadline - time.monotonic()))[0]
        return child.returncode, output.decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        # No wait: a driver that hangs keeps even a killed process for ever.
        child.kill()
        return None, "no answer within %g s" % SMI_TIMEOUT


def gpus(text):
    """One dict for each line of the query; figures the card does not have (``[N/A]``) are None."""
    found = []
    for line in text.splitlines():
        row = [cell.strip() for cell in line.split(",")]
        if len(row) < OLDEST_FIELDS or not row[0].isdigit():
            continue
        row += [""] * (len(FIELDS) - len(row))
        found.append(
            {
                "index": int(row[0]),
                "uuid": row[1],
                "name": row[2],
                "memory_total": (_figure(row[3]) or 0) * MIB,
                "memory_used": (_figure(row[4]) or 0) * MIB,
                "driver": row[5],
                "utilization": _figure(row[6]),
                "compute_mode": _word(row[7]),
                "mig_mode": _word(row[8]),
                "ecc_errors": _figure(row[9]),
                "processes": [],
            }
        )
    return found


def add_processes(cards, text):
    """Put each line of the compute-apps query under its GPU, with owner and command from /proc."""
    by_uuid = {card["uuid"]: card for card in cards}
    for line in text.splitlines():
        row = [cell.strip() for cell in line.split(",", 3)]
        if len(row) == 4 and row[0] in by_uuid and row[1].isdigit():
            user, command = owner_of(int(row[1]))
            memory = _figure(row[2])
            by_uuid[row[0]]["processes"].append(
                {
                    "pid": int(row[1]),
                    "memory": memory * MIB if memory is not None else None,
                    "user": user,
                    "command": (command or row[3])[:200],
                    "started": _started(int(row[1])),
                }
            )


def cuda_in(text):
    """The CUDA version in the head of nvidia-smi's own table."""
    version = re.search(r"CUDA (?:UMD )?Version:\s*(\d+\.\d+)", text)
    return version.group(1) if version else ""


def _cuda():
    import ctypes

    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    version = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return ""
    return "%d.%d" % (version.value // 1000, version.value % 1000 // 10)


def _started(pid):
    stat = read("/proc/%d/stat" % pid).rpartition(")")[2].split()
    boot = re.search(r"^btime (\d+)", read("/proc/stat"), re.MULTILINE)
    if len(stat) < 20 or not boot:
        return None
    return int(boot.group(1)) + int(stat[19]) / os.sysconf("SC_CLK_TCK")


def _figure(cell):
    return int(cell) if cell.isdigit() else None


def _word(cell):
    return "" if cell.startswith("[") else cell

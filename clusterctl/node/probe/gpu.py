"""NVIDIA GPUs: what the driver's own tool says, and what the PCI bus shows whether or not it agrees."""

import os
import re

from ..shared.files import listing, owner_of, read, which
from . import pci

MIB = 1024 * 1024
COMPUTING = ("0x03", "0x12")
NVIDIA, AMD = "0x10de", "0x1002"
FIELDS = (
    "index", "uuid", "name", "memory.total", "memory.used", "driver_version", "utilization.gpu",
    "compute_mode", "mig.mode.current", "ecc.errors.uncorrected.volatile.total", "pci.bus_id",
    "persistence_mode", "pcie.link.width.current", "pcie.link.width.max", "clocks_throttle_reasons.active",
    "remapped_rows.pending", "remapped_rows.failure", "retired_pages.pending", "fabric.state", "power.limit",
    "vbios_version", "pci.sub_device_id", "ecc.mode.current", "clocks.applications.graphics",
)  # fmt: skip
OLDEST_FIELDS = 6
"""How many of them every driver knows."""
NOT_ASKED_OF = (
    "n/a", "not supported", "not available", "insufficient permissions", "not found", "deprecated", "no data",
    "in use by another client",
)  # fmt: skip
"""What stands in brackets where a card merely has no such figure."""
CSV = "--format=csv,noheader,nounits"
SMI_PLACES = ":/usr/bin:/usr/local/bin:/usr/local/nvidia/bin:/usr/lib/wsl/lib"


def nvidia(environ):
    """Everything about NVIDIA GPUs; costs no process where there is no nvidia-smi."""
    bound = devices(NVIDIA)
    found = {
        "devices": None if bound is None else len(bound),
        "bound": bound or [],
        "amd": (devices(AMD) or []).count("amdgpu"),
        "kernel_driver": kernel_driver(read("/proc/driver/nvidia/version")),
    }
    if os.path.exists("/dev/nvidiactl") or os.path.isdir("/proc/device-tree"):
        from . import gpu_nodes  # here and below: a host without a card need not compile them

        found.update(soc=gpu_nodes.soc(), nodes=gpu_nodes.count(), closed=gpu_nodes.closed())
    tool = which("nvidia-smi", environ.get("PATH", "") + SMI_PLACES)
    if tool:
        found.update(_ask(tool, environ))
    return {"nvidia": found}


def devices(vendor, root="/sys/bus/pci/devices"):
    """The kernel driver ("" for none) of each function of a vendor that displays or accelerates; None where
    the bus cannot be read."""
    if not os.path.isdir(root):
        return None
    return [
        os.path.basename(os.path.realpath("%s/%s/driver" % (root, name)))
        if os.path.exists("%s/%s/driver" % (root, name))
        else ""
        for name in listing(root)
        if read("%s/%s/vendor" % (root, name)) == vendor
        and read("%s/%s/class" % (root, name)).startswith(COMPUTING)
    ]


def kernel_driver(text):
    """Version of the kernel module, from the first line of /proc/driver/nvidia/version."""
    version = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)*)\s", text)
    return version.group(1) if version else ""


def _ask(tool, environ):
    from .smi import Smi

    smi = Smi(tool, environ)
    fields = list(FIELDS)
    while True:
        code, text, seconds = smi.run("--query-gpu=" + ",".join(fields), CSV)
        unknown = re.search(r'Field "([^"]+)" is not a valid field', text) if code == 2 else None
        if not unknown or unknown.group(1) not in fields[OLDEST_FIELDS:]:
            break
        fields.remove(unknown.group(1))
    found = {"present": True, "exit_code": code, "seconds": round(seconds, 3)}
    if code != 0:
        found["error"] = " ".join(text.split())[:300]
        return found
    found["gpus"] = gpus(text, fields)
    if found["gpus"]:
        _add_the_rest(found, smi)
    elif text.strip() and "no devices" not in text.lower():
        found["error"] = "nothing that can be read: %s" % " ".join(text.split())[:200]
    return found


def _add_the_rest(found, smi):
    """The tables that each take a process of their own, side by side: NVML is slow to wake."""
    from . import gpu_links, gpu_nodes

    cards = found["gpus"]
    asked: dict[str, tuple[str, ...]] = {
        "apps": ("--query-compute-apps=gpu_uuid,pid,used_memory,process_name", CSV)
    }
    if len(cards) > 1:
        asked.update(
            links=("nvlink", "-s"),
            errors=("nvlink", "-e"),
            topology=("topo", "-m"),
            p2p=("topo", "-p2p", "r"),
        )
    answers = smi.side_by_side(asked)
    told = {what: text for what, (code, text) in answers.items() if code == 0 or what == "links"}
    gpu_links.add_nvlinks(cards, told.get("links", ""))
    gpu_links.add_nvlink_errors(cards, told.get("errors", ""))
    found["topology"] = gpu_links.topology(told.get("topology", ""))
    if "p2p" in asked:
        found["p2p"] = gpu_links.offers_p2p(answers["p2p"][1])
    add_processes(cards, told.get("apps", ""))
    found["stuck"] = gpu_nodes.stuck([each["pid"] for card in cards for each in card["processes"]])
    found["cuda"] = _cuda() or cuda_in(smi.run()[1])


def gpus(text, fields=FIELDS):
    """One dict for each line of the query; figures the card does not have (``[N/A]``) are None.

    ``faults`` are those that the driver refused with an error instead.
    """
    found = []
    for line in text.splitlines():
        row = [cell.strip() for cell in line.split(",")]
        if len(row) < OLDEST_FIELDS or not row[0].isdigit():
            continue
        cells = dict(dict.fromkeys(FIELDS, ""), **dict(zip(fields, row)))  # noqa: B905 (a short row is short)
        found.append(
            {
                "index": int(row[0]),
                "uuid": _word(row[1]),
                "name": row[2],
                "memory_total": (_figure(row[3]) or 0) * MIB,
                "memory_used": (_figure(row[4]) or 0) * MIB,
                "driver": _word(row[5]),
                "utilization": _figure(cells["utilization.gpu"]),
                "compute_mode": _word(cells["compute_mode"]),
                "mig_mode": _word(cells["mig.mode.current"]),
                "ecc_errors": _figure(cells["ecc.errors.uncorrected.volatile.total"]),
                "bus": _word(cells["pci.bus_id"]),
                "persistence": _word(cells["persistence_mode"]),
                "pcie_width": _figure(cells["pcie.link.width.current"]),
                "pcie_width_max": _figure(cells["pcie.link.width.max"]),
                "throttle": _bits(cells["clocks_throttle_reasons.active"]),
                "remap_pending": _yes(cells["remapped_rows.pending"], cells["retired_pages.pending"]),
                "remap_failed": _yes(cells["remapped_rows.failure"]),
                "fabric": "" if cells["fabric.state"] == "N/A" else _word(cells["fabric.state"]),
                "power_limit": _watts(cells["power.limit"]),
                "vbios": _word(cells["vbios_version"]),
                "board": _word(cells["pci.sub_device_id"]),
                "ecc_mode": _word(cells["ecc.mode.current"]),
                "clock_limit": _figure(cells["clocks.applications.graphics"]),
                "numa": pci.numa(pci.device(_word(cells["pci.bus_id"]))),
                "faults": ["%s: %s" % (name, cell) for name, cell in cells.items() if _is_refused(cell)],
                "processes": [],
            }
        )
    return found


def _is_refused(cell):
    return cell.startswith("[") and not any(each in cell.lower() for each in NOT_ASKED_OF)


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


def _watts(cell):
    return float(cell) if re.match(r"\d+(\.\d+)?$", cell) else None


def _bits(cell):
    return int(cell, 16) if re.match(r"0x[0-9a-fA-F]+$", cell) else None


def _yes(*cells):
    """Whether one of them is ``Yes``, or ``1`` as some drivers write; None where none says either."""
    told = [{"yes": True, "1": True, "no": False, "0": False}.get(cell.lower()) for cell in cells]
    return True if True in told else False if False in told else None


def _word(cell):
    return "" if cell.startswith("[") else cell

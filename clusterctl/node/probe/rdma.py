"""RDMA devices as sysfs tells them: their ports, GIDs, counters, and where on the PCI bus they are."""

import os
import re

from ..shared.files import listing, number, read, which
from . import pci

DEVINFO_TIMEOUT = 4.0
MAPPED = "0000:0000:0000:0000:0000:ffff:"
ERRORS = (
    "symbol_error", "link_error_recovery", "link_downed", "port_rcv_errors",
    "local_link_integrity_errors", "excessive_buffer_overrun_errors", "port_xmit_discards",
)  # fmt: skip
"""Of a link, in ``counters``."""
RETRIES = (
    "local_ack_timeout_err", "packet_seq_err", "rnr_nak_retry_err", "req_transport_retries_exceeded",
    "to_retransmits", "seq_err_naks_rcvd", "max_retry_exceeded",
)  # fmt: skip
"""Of what was sent again, in ``hw_counters``; the last three as Broadcom calls them."""


def rdma(environ, root=""):
    """``root`` is put before /sys, /proc and /dev."""
    base = root + "/sys/class/infiniband"
    ports = [
        _port(root, device, port)
        for device in listing(base)
        for port in listing("%s/%s/ports" % (base, device))
        if port.isdigit()
    ]
    if ports:
        mtus = active_mtus(_devinfo(environ))
        for each in ports:
            each["active_mtu"] = mtus.get((each["device"], each["port"]))
    return {
        "rdma": ports,
        "verbs_library": _verbs() if ports else None,
        "verbs_devices": _verbs_devices(root + "/dev/infiniband") if ports else None,
        "peer_memory": _peer_memory(root) if ports else None,
    }


def _port(root, device, port):
    base = "%s/sys/class/infiniband/%s" % (root, device)
    at = "%s/ports/%s" % (base, port)
    netdev = read(at + "/gid_attrs/ndevs/0") or _netdev(base + "/device/net", int(port)) or _parent(base)
    rate = read(at + "/rate").split()
    rows = _gids(at)
    return {
        "device": device,
        "port": int(port),
        "state": read(at + "/state"),
        "physical_state": read(at + "/phys_state"),
        "rate": float(rate[0]) if rate else None,
        "link_layer": read(at + "/link_layer"),
        "lid": int(read(at + "/lid") or "0", 16),
        "sm_lid": int(read(at + "/sm_lid") or "0", 16),
        "netdev": netdev,
        "firmware": read(base + "/fw_ver"),
        "model": read(base + "/hca_type"),
        "board": read(base + "/board_id"),
        "node_type": read(base + "/node_type").partition(":")[2].strip(),
        "driver": os.path.basename(os.path.realpath(base + "/device/driver"))
        if os.path.exists(base + "/device/driver")
        else "",
        "software": "/devices/virtual/" in os.path.realpath(base),
        "netdev_mtu": number("%s/sys/class/net/%s/mtu" % (root, netdev)) if netdev else None,
        "gids": [index for index, _ in rows] if listing(at + "/gids") else None,
        "gid_addresses": [address for _, address in rows],
        "subnet_prefix": read(at + "/gids/0")[:19],
        "pkey": read(at + "/pkeys/0"),
        "path": pci.path(base + "/device"),
        "pcie": pci.link(base + "/device"),
        "numa": pci.numa(base + "/device"),
        "link_errors": _counted(at + "/counters", ERRORS),
        "retries": _counted(at + "/hw_counters", RETRIES),
    }


def _counted(directory, names):
    found = {name: number("%s/%s" % (directory, name)) for name in names}
    return {name: count for name, count in found.items() if count is not None}


def _gids(at):
    """(index, address) of those that carry an IPv4 address over RoCE version 2; an empty place does not let
    itself be read."""
    found = []
    for name in listing(at + "/gids"):
        if name.isdigit() and read("%s/gid_attrs/types/%s" % (at, name)) == "RoCE v2":
            gid = read("%s/gids/%s" % (at, name))
            if gid.startswith(MAPPED):
                digits = gid[len(MAPPED) :].replace(":", "")
                found.append((int(name), ".".join(str(int(digits[i : i + 2], 16)) for i in (0, 2, 4, 6))))
    return sorted(found)


def _netdev(directory, port):
    """A function of two ports shows both devices: ``dev_port`` counts from 0."""
    names = listing(directory)
    for name in names:
        if number("%s/%s/dev_port" % (directory, name)) == port - 1:
            return name
    return names[0] if names else ""


def _parent(base):
    """The interface under RDMA in software; old kernels end its name with a zero byte."""
    return read(base + "/parent").strip("\0\n ")


def _verbs():
    import ctypes

    try:
        ctypes.CDLL("libibverbs.so.1")
    except OSError:
        return False
    return True


def _verbs_devices(root):
    names = [name for name in listing(root) if name.startswith("uverbs")]
    return bool(names) and all(os.access("%s/%s" % (root, name), os.R_OK | os.W_OK) for name in names)


def _peer_memory(root):
    """As NCCL looks for it: the module, a registration with the verbs stack, or the driver's open modules,
    which share memory as DMA-BUF."""
    modules = ("nvidia_peermem", "nv_peer_mem")
    loaded = any(os.path.isdir("%s/sys/module/%s" % (root, name)) for name in modules)
    registered = any(name.startswith("nv_mem") for name in listing(root + "/sys/kernel/mm/memory_peers"))
    return loaded or registered or "Open Kernel Module" in read(root + "/proc/driver/nvidia/version")


def _devinfo(environ):
    """The verbs library's own tool, where it is installed: sysfs does not tell the MTU in use."""
    import subprocess

    tool = which("ibv_devinfo", environ.get("PATH", "") + ":/usr/bin")
    if not tool:
        return ""
    try:
        done = subprocess.run(
            [tool],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=DEVINFO_TIMEOUT,
            env=environ,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def active_mtus(text):
    """(device, port) -> bytes, from the output of ibv_devinfo."""
    found, device, port = {}, "", 0
    for line in text.splitlines():
        name, _, value = line.strip().partition(":")
        words = value.split()
        if name == "hca_id" and words:
            device = words[0]
        elif name == "port" and words and words[0].isdigit():
            port = int(words[0])
        elif name == "active_mtu" and words and re.match(r"\d+$", words[0]):
            found[device, port] = int(words[0])
    return found

"""Where a device is: its way from the root of the PCI bus, and the NUMA node it hangs on."""

import os
import re

from ..shared.files import number, read

ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]")


def device(bus):
    """The directory of a PCI address as nvidia-smi writes it, ``00000000:3B:00.0``; "" for another text."""
    match = re.match(r"0*([0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f])$", bus)
    return "/sys/bus/pci/devices/" + match.group(1).lower() if match else ""


def path(device):
    """``0000:3a:00.0/0000:3b:00.0``: the bridges down to the device; "" for what is not on the bus."""
    return "/".join(part for part in os.path.realpath(device).split("/") if ADDRESS.match(part))


def numa(device):
    """None where the machine does not tell, as virtual ones."""
    node = number(device + "/numa_node")
    return node if node is not None and node >= 0 else None


def link(device):
    """``16.0 GT/s x16``: how fast and how wide the device is connected; "" where nobody tells."""
    speed, width = read(device + "/current_link_speed"), number(device + "/current_link_width")
    return "%s x%d" % (speed.replace(" PCIe", ""), width) if width and speed[:1].isdigit() else ""

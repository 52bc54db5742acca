"""What nvidia-smi and the PCI bus tell of a host's GPUs."""

from __future__ import annotations

import msgspec


class GpuProcess(msgspec.Struct, frozen=True):
    pid: int
    memory: int | None
    user: str
    command: str
    started: float | None = None


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    uuid: str
    name: str
    memory_total: int
    memory_used: int
    driver: str = ""
    utilization: int | None = None
    compute_mode: str = ""
    mig_mode: str = ""
    ecc_errors: int | None = None
    bus: str = ""
    """PCI address, as ``00000000:3B:00.0``."""
    numa: int | None = None
    """The processor it hangs on, as a NUMA node."""
    persistence: str = ""
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    throttle: int | None = None
    """Bits of NVML's clocks event reasons that were set at the moment of asking."""
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    fabric: str = ""
    """State of NVSwitch's fabric for this card; "" where it has none."""
    power_limit: float | None = None
    """Watts."""
    clock_limit: int | None = None
    """The application clock in MHz; newer drivers have none."""
    vbios: str = ""
    board: str = ""
    """The board's own PCI id: who made it, and which of theirs."""
    ecc_mode: str = ""
    nvlinks: tuple[int, int] | None = None
    """Active and inactive links; None where the card has none or was not asked."""
    nvlink_errors: int | None = None
    """Of all its links together, since the driver was loaded."""
    faults: tuple[str, ...] = ()
    """``field: [text]`` of figures that the driver refused with an error, such as ``[Unknown Error]``."""
    processes: tuple[GpuProcess, ...] = ()


class DeviceNode(msgspec.Struct, frozen=True):
    """One of /dev/nvidia*, and the group that may use it ("" for none)."""

    path: str
    group: str = ""


class StuckProcess(msgspec.Struct, frozen=True):
    """A process on a card that does not end: ``state`` is ``zombie`` or ``killed``."""

    pid: int
    user: str
    command: str
    state: str


class NvidiaSmi(msgspec.Struct, frozen=True, kw_only=True):
    """``present`` is false where no nvidia-smi exists; ``exit_code`` None means it did not end in time.
    ``seconds`` are those that one query took, without those in which it waited for a core."""

    present: bool = False
    exit_code: int | None = None
    seconds: float = 0.0
    error: str = ""
    cuda: str = ""
    gpus: tuple[Gpu, ...] = ()
    devices: int | None = None
    """NVIDIA functions on the PCI bus (display class), whether or not the driver sees them."""
    p2p: bool | None = None
    """Whether the driver offers any two cards peer-to-peer reads; None where it was not asked."""
    bound: tuple[str, ...] = ()
    """The kernel driver of each of them: nvidia, nouveau, vfio-pci, or "" for none."""
    amd: int = 0
    """AMD functions on the bus that compute (their driver is amdgpu)."""
    kernel_driver: str = ""
    """Version in /proc/driver/nvidia/version."""
    soc: str = ""
    """The model of a machine whose GPU is part of its processor, as Jetson's; "" elsewhere."""
    topology: dict[str, str] = {}
    """``0-1`` -> how these two cards are connected: ``NV12``, ``PIX``, ``SYS`` ..."""
    nodes: int = 0
    """How many cards have a device node."""
    closed: tuple[DeviceNode, ...] = ()
    """Device nodes that this user may not open."""
    stuck: tuple[StuckProcess, ...] = ()

"""What sysfs tells of RDMA: a port of an adapter, whatever kind of link it has."""

from __future__ import annotations

import msgspec


class RdmaPort(msgspec.Struct, frozen=True, kw_only=True):
    device: str
    port: int
    state: str
    physical_state: str
    rate: float | None
    """Gbit/s."""
    link_layer: str
    """InfiniBand, Ethernet, or Unknown for adapters that NCCL reaches through a plugin only."""
    lid: int = 0
    sm_lid: int = 0
    netdev: str = ""
    firmware: str = ""
    model: str = ""
    """As the driver names it: ``MT4129`` is a ConnectX-7."""
    board: str = ""
    node_type: str = ""
    """``CA``; ``RNIC`` speaks iWARP, which NCCL does not."""
    driver: str = ""
    software: bool = False
    """It has no adapter: the kernel does RDMA over an ordinary interface (rxe, siw)."""
    netdev_mtu: int | None = None
    active_mtu: int | None = None
    """Of RDMA messages, where ibv_devinfo is installed."""
    gids: tuple[int, ...] | None = None
    """Indices of GIDs of RoCE version 2 for an IPv4 address; None where none could be read."""
    gid_addresses: tuple[str, ...] = ()
    """The addresses of ``gids``, in their order."""
    subnet_prefix: str = ""
    """First half of GID 0: on InfiniBand the subnet."""
    pkey: str = ""
    """The partition key at index 0, as ``0xffff``."""
    path: str = ""
    """PCI addresses from the root of the bus to the adapter, by slashes."""
    pcie: str = ""
    """How fast and how wide it is connected, as ``16.0 GT/s x16``."""
    numa: int | None = None
    link_errors: dict[str, int] = {}
    """By counter's name, since the counters began."""
    retries: dict[str, int] = {}
    """What had to be sent again, by counter's name."""

    @property
    def name(self) -> str:
        return f"{self.device}:{self.port}"

"""What a node told us about itself. Every value is raw: no judgement, no comparison.

Sizes are bytes, times are seconds. ``None`` means the node could not tell; it never means "fine".
"""

from __future__ import annotations

from typing import Literal

import msgspec

from clusterctl.facts.addresses import ip_network
from clusterctl.facts.gpu import NvidiaSmi
from clusterctl.facts.machine import Cgroup, Filesystem, KernelLog, Limits, Login, Logind, Mounts
from clusterctl.facts.rdma import RdmaPort

InterfaceKind = Literal[
    "physical", "bond", "vlan", "bridge", "veth", "tun", "wireguard", "wireless", "loopback", "virtual"
]
PortKind = Literal["ephemeral", "low", "middle", "high", "master", "nccl"]


class Address(msgspec.Struct, frozen=True):
    """``family`` is ``inet`` or ``inet6``; ``scope`` is ``global``, ``link`` or ``host``.

    Raises ValueError for what is no address with a prefix.
    """

    family: str
    address: str
    prefix: int
    scope: str = "global"

    def __post_init__(self) -> None:
        ip_network(f"{self.address}/{self.prefix}", strict=False)


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of /sys/class/net. ``speed`` is Mbit/s, None where the driver does not say."""

    name: str
    index: int
    kind: InterfaceKind
    up: bool
    running: bool
    carrier: bool | None = None
    operstate: str = ""
    mtu: int = 0
    speed: int | None = None
    mac: str = ""
    carrier_changes: int | None = None
    errors: int | None = None
    """Received and sent with errors since boot."""
    rp_filter: int | None = None
    addresses: tuple[Address, ...] = ()
    bridge_of: str = ""
    """The bridge or bond this interface is enslaved to."""


class Variable(msgspec.Struct, frozen=True):
    """A setting that reaches processes on the node.

    ``origin`` is ``environment``, ``activation line`` or ``file:line``.
    """

    name: str
    value: str
    origin: str


class Python(msgspec.Struct, frozen=True, kw_only=True):
    """The interpreter that will train there. ``error`` is set where it is missing or does not start."""

    executable: str = ""
    requested: str = ""
    version: str = ""
    error: str = ""
    packages: dict[str, str] = {}
    """Lower-case distribution name -> version, read from metadata without importing anything."""
    torch_cuda: str | None = None
    """CUDA version torch was built for, from torch/version.py; "" for a CPU build, None without torch."""
    torch_hip: str = ""
    """ROCm version torch was built for."""
    torch_git: str | None = None
    net_plugin: str = ""
    """The NCCL network plugin that the loader would find."""
    shadows: tuple[str, ...] = ()
    """Files that PYTHONPATH puts before modules of Python's own of the same names."""
    nccl_first: str = ""
    """The libnccl.so.2 that LD_LIBRARY_PATH or LD_PRELOAD puts before torch's own, links resolved."""


class Activation(msgspec.Struct, frozen=True, kw_only=True):
    """What the profile's activation line changed in the node's environment; nothing when ``error`` is set."""

    variables: dict[str, str] = {}
    removed: tuple[str, ...] = ()
    error: str = ""


class TorchImport(msgspec.Struct, frozen=True, kw_only=True):
    """What one real `import torch` in its own process showed. ``told`` is false where nobody heard of it."""

    ok: bool
    told: bool = True
    seconds: float = 0.0
    error: str = ""
    cuda_available: bool = False
    device_count: int = 0
    nccl_version: str = ""
    nccl_path: str = ""
    distributed: bool = True
    capabilities: tuple[str, ...] = ()
    bf16: bool | None = None
    blocked: float | None = None
    """Of ``seconds``, those in which it neither ran nor waited for a core: for a disk, mostly."""


class NcclPick(msgspec.Struct, frozen=True, kw_only=True):
    """What the host's own libnccl took, asked under the variables of the run: one of ``address`` with its
    ``port``, ``refused`` in its words, ``missing`` (why there is nothing to ask) and ``unknown`` (why it did
    not say)."""

    address: str = ""
    port: int = 0
    index: int = 0
    """Of the interface, where the address alone does not name it."""
    refused: str = ""
    missing: str = ""
    unknown: str = ""
    library: str = ""
    version: str = ""


class Name(msgspec.Struct, frozen=True):
    """What ``query`` resolves to on the node (getaddrinfo), in order."""

    query: str
    addresses: tuple[str, ...]
    error: str = ""
    late: bool = False
    """The resolver gave no answer in time, which is neither yes nor no."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One node's answer. ``clock_offset`` is node minus controller, corrected by half the round trip."""

    host: str
    hostname: str
    machine_id: str = ""
    boot_id: str = ""
    user: str = ""
    uid: int = -1
    home: str = ""
    shell: str = ""
    kernel: str = ""
    os_release: str = ""
    architecture: str = ""
    cpus: int = 0
    """Cores that the session may use; ``cpus_online`` is how many run."""
    cpus_online: int = 0
    load: float | None = None
    """Of the last five minutes."""
    memory_total: int = 0
    memory_available: int = 0
    cgroup: Cgroup = Cgroup()
    capabilities: int | None = None
    """The session's effective capabilities, as bits."""
    connections: tuple[int, int] | None = None
    """Tracked connections, and how many may be; None where none are tracked."""
    neighbours: int | None = None
    """How many entries the kernel's neighbour (ARP) table may have."""
    reboot_required: str = ""
    """What asks for a reboot, in words."""
    login: Login | None = None
    logind: Logind | None = None
    """None where no systemd-logind runs."""
    kernel_log: KernelLog | None = None
    clock_offset: float | None = None
    clock_error: float | None = None
    probe_python: str = ""
    path: str = ""
    noise: str = ""
    """What the login shell printed before our first line."""
    complaints: str = ""
    """What it printed on stderr."""
    ssh_address: str = ""
    """Local address of the SSH connection as the node sees it ($SSH_CONNECTION)."""
    ssh_peer: str = ""
    interfaces: tuple[Interface, ...] = ()
    default_device: str = ""
    firewall: str = ""
    """How this host's firewall is told: ufw, firewalld, nft, iptables; "" where none of them is there."""
    vendor: str = ""
    """Who made the machine, by its firmware; clouds write their names there."""
    product: str = ""
    """Which machine of the vendor's it is."""
    port_range: tuple[int, int] = (32768, 60999)
    rdma: tuple[RdmaPort, ...] = ()
    verbs_library: bool | None = None
    verbs_devices: bool | None = None
    """Whether this user may open /dev/infiniband/uverbs*."""
    peer_memory: bool | None = None
    """Whether adapters may reach GPU memory: nvidia_peermem is loaded, or the driver's open modules."""
    nvidia: NvidiaSmi = NvidiaSmi()
    filesystems: tuple[Filesystem, ...] = ()
    mounts: Mounts = Mounts()
    stale_shm: tuple[str, ...] = ()
    limits: Limits = Limits()
    variables: tuple[Variable, ...] = ()
    activation: Activation | None = None
    """None where the profile has no line for this host."""
    python: Python = Python()
    torch: TorchImport | None = None
    """None when torch was not imported (quick mode, or no torch)."""
    nccl: NcclPick | None = None
    """None where libnccl was not asked: quick mode, or no network was chosen."""
    names: tuple[Name, ...] = ()
    accelerate_config: str = ""
    """accelerate's default_config.yaml in one line, without what is each machine's own."""
    compilers: tuple[str, ...] = ()
    workdir_exists: bool | None = None
    shared_token: str = ""
    seconds: float = 0.0
    """How long the node itself took to collect this."""
    errors: tuple[str, ...] = ()
    """``what: why`` for each fact that could not be read; it is None or empty above."""


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """How what a dial sent fared, as the sender's kernel counted it.

    ``busy`` is how many seconds the network had some of it: time in which the sender's process or the peer's
    was slow is not in it. ``again`` are packets sent again that the peer had not had before.
    """

    acknowledged: int
    busy: float
    packets: int
    again: int
    round_trip: float
    """At the end; a queue on the way makes it longer than the ``shortest``."""
    shortest: float
    alone: bool = False
    """Measured when nothing else was sent."""
    steady: bool = False
    """Small packets, one now and then: what was lost of them was lost by a fault, not by too much haste."""


class Dial(msgspec.Struct, frozen=True, kw_only=True):
    """One TCP attempt from ``source`` host to an address and port of ``target`` host.

    ``result`` is one of

    - ok: connected, and the right host answered
    - connected: the kernel there accepted the connection, its process has not answered: nobody knows
    - unsettled: it failed once and could not be repeated, or the time was over: nobody knows
    - timeout: requests to connect, or what was sent after, found no answer in the kernel there
    - refused: a TCP reset
    - prohibited: an ICMP message of a firewall, ``rejected_by`` an address
    - no-host: no answer to ARP; unreachable: some other ICMP message; no-route: by this host's own table
    - stall: small messages passed, full-size packets did not
    - foreign: another service answered, or another host: then ``answered`` names it
    - error

    ``seen`` is the source address the listener saw, ``seconds`` the round trip that the kernel measured.
    ``bulk`` says that 1 MB was sent, or would have been. A dial to the port of libnccl is ok once connected:
    its kernel answers, and nobody else.
    """

    source: str
    target: str
    address: str
    port: int
    kind: PortKind
    result: str
    seconds: float = 0.0
    seen: str = ""
    device: str = ""
    """Interface the route to ``address`` leaves by on the source host."""
    detail: str = ""
    rejected_by: str = ""
    answered: str = ""
    bulk: bool = False
    departed: bool | None = None
    """Of a timeout that was repeated alone: whether the requests left the sender, or its own kernel kept them
    back; None where that is not known."""
    flow: Flow | None = None

    @property
    def is_path(self) -> bool:
        """Whether it was made to try the path: others try one port."""
        return self.kind not in ("master", "nccl")


class Reachability(msgspec.Struct, frozen=True, kw_only=True):
    """All dials between hosts. ``listen_errors``: host -> why it could not listen. Empty when not asked.

    ``neighbours``: host -> how often its neighbour table had no room meanwhile, where it had not. ``sampled``
    is true where not all pairs were tried.
    """

    dials: tuple[Dial, ...] = ()
    listen_errors: dict[str, str] = {}
    neighbours: dict[str, int] = {}
    sampled: bool = False
    master_port: int | None = None
    master_error: str = ""
    asked: bool = False

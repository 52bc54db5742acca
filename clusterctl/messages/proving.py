"""What passes while hosts are proven end to end, within an examination."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from clusterctl.messages.events import Text

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class _Asked(msgspec.Struct, frozen=True, kw_only=True, tag_field="do"):
    pass


class RankOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One rank. ``env`` and ``removed`` make the launch's environment of the session's; ``sizes`` are bytes
    of all-reduces whose time is taken, ``timeout`` is when its process ends at the latest."""

    rank: int
    world: int
    backend: str
    device: str
    master_addr: str
    master_port: int
    env: dict[str, str]
    removed: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    repeats: int = 3
    timeout: float


class Join(_Asked, frozen=True, kw_only=True, tag="join"):
    """Begin these ranks, each in a process of ``python``; with ``reuse`` in that of the import, if there is
    one. Gives back the ports of `Listen`. Answers: `RanksTold`, as often as there is news."""

    group: int
    python: str
    reuse: bool
    ranks: tuple[RankOrder, ...]


class Leave(_Asked, frozen=True, kw_only=True, tag="leave"):
    """End the ranks of a group."""

    group: int


class Receive(_Asked, frozen=True, kw_only=True, tag="receive"):
    """Take, and drop, what whoever knows ``token`` (hex) sends to a port on this address. Answer:
    `Receiving`."""

    address: str
    token: str


class Send(_Asked, frozen=True, kw_only=True, tag="send"):
    """Fill so many connections to a receiver for so long. Answer: `Sent`."""

    address: str
    port: int
    token: str
    seconds: float
    streams: int
    timeout: float


class Compute(_Asked, frozen=True, kw_only=True, tag="compute"):
    """Multiply matrices of ``size`` on these devices, each in a process of its own that ends after
    ``timeout``. Answer: `Computed`."""

    python: str
    env: dict[str, str]
    removed: tuple[str, ...]
    devices: tuple[str, ...]
    size: int
    timeout: float


class AskDcgm(_Asked, frozen=True, kw_only=True, tag="dcgm"):
    """What does NVIDIA's diagnosis say? Answer: `DcgmTold`."""

    timeout: float


class _Answer(msgspec.Struct, frozen=True, kw_only=True, tag_field="is"):
    pass


class RankNews(msgspec.Struct, frozen=True, kw_only=True):
    """How far a rank has come by now. See `facts.e2e.Rank`; ``port`` is that of rank 0's store."""

    stage: Literal["", "begun", "store", "group", "reduced"] = ""
    done: bool = False
    port: Port | None = None
    error: Text = ""
    ended: Text = ""
    state: Literal["works", "waits", "stopped"] = "works"
    unanswered: tuple[tuple[Text, Literal["connect", "data"]], ...] = ()
    missing: tuple[Count, ...] = ()
    times: tuple[tuple[Count, float], ...] = ()
    log: tuple[Text, ...] = ()


class RanksTold(_Answer, frozen=True, kw_only=True, tag="ranks"):
    """All ranks of a group on this host, in the order of the `Join`."""

    group: int
    ranks: tuple[RankNews, ...]


class Receiving(_Answer, frozen=True, kw_only=True, tag="receiving"):
    port: Port | None = None
    error: Text = ""


class Sent(_Answer, frozen=True, kw_only=True, tag="sent"):
    """See `facts.e2e.Transfer`."""

    rate: float = 0.0
    busy: float = 0.0
    receiver: float = 0.0
    buffer: float = 0.0
    cpu: float = 0.0
    idle: float = 0.0
    error: Text = ""


class DeviceNews(msgspec.Struct, frozen=True, kw_only=True):
    """See `facts.e2e.Device`."""

    device: Text
    stage: Literal["begun", "imported", "right"] = "begun"
    done: bool = False
    flops: float = 0.0
    error: Text = ""
    ended: Text = ""
    late: bool = False


class Computed(_Answer, frozen=True, kw_only=True, tag="computed"):
    devices: tuple[DeviceNews, ...] = ()
    error: Text = ""


class DcgmTold(_Answer, frozen=True, kw_only=True, tag="dcgm"):
    """``text`` is all that dcgmi printed."""

    present: bool = False
    late: bool = False
    text: Text = ""
    error: Text = ""


ProofAnswer = RanksTold | Receiving | Sent | Computed | DcgmTold

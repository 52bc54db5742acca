"""What the relay of one node answers to `messages.orders`, and tells by itself, while a run lives.

The field ``is`` tells them apart.
"""

from __future__ import annotations

import zlib
from typing import Annotated

import msgspec

from clusterctl.messages.checkpoints import HostCheckpoint
from clusterctl.messages.codec import Decoder, Garbled
from clusterctl.messages.events import AgentEvent, LeftProcess, Rank, Text
from clusterctl.messages.evidence import HostEvidence, RankActivity

LogName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^((rank-[0-9]{1,6}|agent)(\.attempt-[0-9]{1,3})?\.log"
        r"|metrics-[0-9]{1,6}(\.attempt-[0-9]{1,3})?\.jsonl"
        r"|(samples|times)(\.attempt-[0-9]{1,3})?\.ndjson"
        r"|flight-[0-9]{1,6}(\.attempt-[0-9]{1,3})?\.pickle)$",
        max_length=64,
    ),
]
Size = Annotated[int, msgspec.Meta(ge=0)]
PIECE_LIMIT = 1 << 20
"""Bytes of a log in one piece; no relay sends a quarter of it."""
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class _Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="is"):
    pass


class Heartbeat(_Reply, frozen=True, kw_only=True, tag="beat"):
    time: float


class Checked(_Reply, frozen=True, kw_only=True, tag="checked"):
    in_place: bool
    snapshot: bool


class Unpacked(_Reply, frozen=True, kw_only=True, tag="unpacked"):
    pass


class Started(_Reply, frozen=True, kw_only=True, tag="started"):
    cwd: Text
    run_dir: Text


class LogPiece(_Reply, frozen=True, kw_only=True, tag="log"):
    """Bytes of a log at their offset; ``data`` travels as base64."""

    name: LogName
    offset: Size
    data: bytes


class PackedPiece(_Reply, frozen=True, kw_only=True, tag="packed-log"):
    """A `LogPiece` whose bytes travel packed by zlib. `replies` unpacks it: nobody else meets one."""

    name: LogName
    offset: Size
    data: bytes


class LogCut(_Reply, frozen=True, kw_only=True, tag="cut"):
    """Bytes ``head`` to ``resume`` of a log were too many and are gone. The beginning has been sent, what
    comes next is at ``resume`` or beyond."""

    name: LogName
    head: Size
    resume: Size


class HostEvent(_Reply, frozen=True, kw_only=True, tag="event"):
    """One line of the node's ``events.jsonl``, which ends at byte ``offset`` of that file."""

    offset: Size
    event: AgentEvent


class GarbledEvent(_Reply, frozen=True, kw_only=True, tag="garbled-event"):
    """A line of the node's ``events.jsonl`` that is no event, and ``why``. What comes after it is heard."""

    offset: Size
    why: Text


class CaughtUp(_Reply, frozen=True, kw_only=True, tag="level"):
    """All that had happened when this session began has been told."""


class Fingerprint(msgspec.Struct, frozen=True):
    """How long a log is, and the hash of its bytes but for those from ``head`` to ``resume``."""

    size: Size
    sha256: Sha256
    head: Size = 0
    resume: Size = 0


class Complete(_Reply, frozen=True, kw_only=True, tag="complete"):
    """The node's part has ended and every byte has been sent: sizes and hashes of all logs."""

    logs: dict[LogName, Fingerprint]


class AgentGone(_Reply, frozen=True, kw_only=True, tag="agent-gone"):
    """The agent ended without a word; the relay has swept, ``left`` processes are still there. ``strays`` are
    let alone: they work where the run has its files, and bear no mark."""

    left: int
    strays: tuple[LeftProcess, ...] = ()


class Probed(_Reply, frozen=True, kw_only=True, tag="probed"):
    node_rank: Rank
    alive: bool


class Activity(_Reply, frozen=True, kw_only=True, tag="activity"):
    """What the node's ranks that run have done until ``moment``, seconds of its clock since boot. ``rdma``:
    bytes through all RDMA ports of the host; None without any."""

    moment: float
    ranks: tuple[RankActivity, ...]
    rdma: int | None = None


class Evidence(_Reply, frozen=True, kw_only=True, tag="evidence"):
    evidence: HostEvidence


class Absent(_Reply, frozen=True, kw_only=True, tag="absent"):
    """This host knows nothing of the run; ``reason`` says whether it was rebooted, where it can tell."""

    reason: Text = ""


class Checkpoints(_Reply, frozen=True, kw_only=True, tag="checkpoints"):
    """The newest ones in ``directory``, now absolute, and what its file ``latest`` says; None without one."""

    directory: Text
    latest: Text | None
    found: tuple[HostCheckpoint, ...]


class Placed(_Reply, frozen=True, kw_only=True, tag="placed"):
    pass


class Failed(_Reply, frozen=True, kw_only=True, tag="failed"):
    """An order could not be carried out."""

    what: Text
    reason: Text


class Forgotten(_Reply, frozen=True, kw_only=True, tag="forgotten"):
    pass


Reply = (
    Heartbeat
    | Checked
    | Unpacked
    | Started
    | LogPiece
    | PackedPiece
    | LogCut
    | HostEvent
    | GarbledEvent
    | CaughtUp
    | Complete
    | AgentGone
    | Probed
    | Activity
    | Evidence
    | Absent
    | Checkpoints
    | Placed
    | Failed
    | Forgotten
)


class _Frame(_Reply, frozen=True, kw_only=True, tag="event"):
    offset: Size


class _Replies(Decoder[Reply]):
    def __init__(self) -> None:
        super().__init__(Reply)
        self._frame: Decoder[_Frame] = Decoder(_Frame)

    def decode(self, line: bytes) -> Reply:
        """An event that is none costs the run of that host, not the session that brought it."""
        try:
            reply = super().decode(line)
            return _unpacked(reply) if isinstance(reply, PackedPiece) else reply
        except Garbled as error:
            try:
                return GarbledEvent(offset=self._frame.decode(line).offset, why=str(error))
            except Garbled:
                raise error from None


def _unpacked(piece: PackedPiece) -> LogPiece:
    """Raises Garbled for what is no packed piece, or would become more than one may be."""
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(piece.data, PIECE_LIMIT)
    except zlib.error as error:
        raise Garbled(f"a piece of a log cannot be unpacked: {error}") from error
    if not unpacking.eof or unpacking.unused_data:
        raise Garbled(f"a piece of a log is not whole, or of more than {PIECE_LIMIT} bytes")
    return LogPiece(name=piece.name, offset=piece.offset, data=data)


replies: Decoder[Reply] = _Replies()

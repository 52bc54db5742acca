"""What passes between the controller and a host that is being examined.

Tag fields: ``do`` for what is asked, ``is`` for answers. Facts come by themselves, once.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from clusterctl.messages.codec import Decoder
from clusterctl.messages.events import Text
from clusterctl.messages.proving import ProofAnswer

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class _Asked(msgspec.Struct, frozen=True, kw_only=True, tag_field="do"):
    pass


class Ping(_Asked, frozen=True, kw_only=True, tag="ping"):
    """What time is it there? Answer: `Pong`. ``sent`` is our own wall-clock time."""

    sent: float


class ImportTorch(_Asked, frozen=True, kw_only=True, tag="torch"):
    """One real import under this interpreter. Answer: `TorchImported`."""

    python: str
    timeout: float


class MasterPort(msgspec.Struct, frozen=True, kw_only=True):
    """``port`` is the user's own choice; without it the first free one of ``tries`` from ``preferred`` on."""

    port: int | None
    preferred: int
    tries: int


class Listen(_Asked, frozen=True, kw_only=True, tag="listen"):
    """Open ports on these addresses, and find a port for rank 0's store. Answer: `Listening`.

    ``token`` (hex) is what peers must know, ``rank`` what they are told: who it is that answers.
    ``ephemeral`` ports are chosen by the system, others come from both ends and the middle of ``port_range``.
    """

    token: str
    rank: int
    addresses: tuple[str, ...]
    ephemeral: int
    port_range: tuple[int, int]
    master: MasterPort | None = None


class DialAll(_Asked, frozen=True, kw_only=True, tag="dial"):
    """Visit these peers in this order; each is (address, port, with 1 MB) for every dial. Answer: `Dialled`.

    ``greeting``: somebody there answers who we are to one another; without, a handshake is all there is.
    With ``packets`` so many small ones are sent now and then, in the place of 1 MB.

    ``dial_timeout`` is how long kernels may leave one attempt unanswered; ``reply_timeout`` how long, after
    the last news from anybody, accepted connections may stay silent; ``timeout`` is for all. They begin when
    the host begins.
    """

    peers: tuple[tuple[tuple[str, int, bool], ...], ...]
    dial_timeout: float
    reply_timeout: float
    timeout: float
    greeting: bool = True
    packets: Count = 0


class AskNccl(_Asked, frozen=True, kw_only=True, tag="nccl"):
    """Ask libnccl, under the variables that the run will have there, which address it takes, and keep its
    port open until another bundle is awaited. Answer: `NcclAsked`.

    ``library`` is the libnccl that importing torch has loaded, "" where that was not tried.
    """

    python: str
    env: dict[str, str]
    removed: tuple[str, ...]
    library: str
    timeout: float


class IsNcclHeld(_Asked, frozen=True, kw_only=True, tag="nccl-held"):
    """Is that port still open? Answer: `NcclHeld`."""


class AwaitBundle(_Asked, frozen=True, kw_only=True, tag="next"):
    """Become a bare interpreter that waits for another bundle. Answer: `Awaiting`."""


class _Answer(msgspec.Struct, frozen=True, kw_only=True, tag_field="is"):
    pass


class FactsTold(_Answer, frozen=True, kw_only=True, tag="facts"):
    """Facts as the host told them: each is decoded for itself, so that a bad one costs no other."""

    facts: dict[str, Any]


class Pong(_Answer, frozen=True, kw_only=True, tag="pong"):
    """``sent`` comes back as it was; ``time`` is the host's wall clock."""

    sent: float
    time: float


class TorchImported(_Answer, frozen=True, kw_only=True, tag="torch"):
    """What the import showed, each value for itself; ``error`` where not even that could be tried."""

    torch: dict[str, Any] = {}
    error: Text = ""


class OpenPort(msgspec.Struct, frozen=True, array_like=True):
    address: Text
    port: Port
    kind: Literal["ephemeral", "low", "middle", "high", "master"]


class Listening(_Answer, frozen=True, kw_only=True, tag="listening"):
    """``master_error`` says why the port asked for, or every one tried, is held."""

    listeners: tuple[OpenPort, ...] = ()
    master_port: Port | None = None
    master_error: Text = ""
    error: Text = ""


class FlowTold(msgspec.Struct, frozen=True, array_like=True):
    """See `facts.model.Flow`."""

    acknowledged: Count
    busy: Seconds
    packets: Count
    again: Count
    round_trip: Seconds
    shortest: Seconds


class DialResult(msgspec.Struct, frozen=True, array_like=True):
    """How one dial ended; ``order`` counts all dials of a `DialAll` from 0. See `facts.model.Dial`.

    ``rank`` is who answered, None when nobody said so.
    """

    order: Count
    result: Text
    seconds: float
    seen: Text
    device: Text
    detail: Text
    rejected_by: Text
    rank: Count | None
    flow: FlowTold | None = None


class Dialled(_Answer, frozen=True, kw_only=True, tag="dialled"):
    """Dials not begun in time are missing, and so are those to further ports of an address without a way.

    ``neighbours_refused`` is how often meanwhile the neighbour table had no room; None where the kernel does
    not show it; ``kept_back`` how often the host itself did not let a packet out that it sent again.
    """

    results: tuple[DialResult, ...] = ()
    error: Text = ""
    neighbours_refused: Count | None = None
    kept_back: Count | None = None


class NcclAsked(_Answer, frozen=True, kw_only=True, tag="nccl"):
    """What libnccl said, each value for itself; see `facts.model.NcclPick`."""

    nccl: dict[str, Any] = {}


class NcclHeld(_Answer, frozen=True, kw_only=True, tag="nccl-held"):
    held: bool


class Awaiting(_Answer, frozen=True, kw_only=True, tag="next"):
    """The last word of this examination: another bundle may be sent."""


ExaminationAnswer = (
    FactsTold | Pong | TorchImported | Listening | Dialled | NcclAsked | NcclHeld | Awaiting | ProofAnswer
)

examination_answers: Decoder[ExaminationAnswer] = Decoder(ExaminationAnswer)

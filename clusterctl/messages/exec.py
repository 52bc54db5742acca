"""What a node says while it runs one command for `clusterctl exec`. Tag field: ``is``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from clusterctl.messages.codec import Decoder

ExitCode = Annotated[int, msgspec.Meta(ge=0, le=255)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class _Told(msgspec.Struct, frozen=True, kw_only=True, tag_field="is"):
    pass


class Output(_Told, frozen=True, kw_only=True, tag="output"):
    """Bytes of one of the command's streams; ``data`` travels as base64."""

    stream: Literal["out", "err"]
    data: bytes


class CommandEnded(_Told, frozen=True, kw_only=True, tag="command-ended"):
    """The last word. ``code`` is the command's own (128+n for a signal).

    ``timed_out``: it was ended at its timeout; ``left`` processes of it could not be, None where even that
    could not be told.
    """

    code: ExitCode
    timed_out: bool
    left: Count | None = 0


ExecMessage = Output | CommandEnded

exec_messages: Decoder[ExecMessage] = Decoder(ExecMessage)

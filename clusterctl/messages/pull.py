"""What a node says while it hands files of a run back. Tag field: ``is``."""

from __future__ import annotations

from typing import Annotated

import msgspec

from clusterctl.messages.codec import Decoder
from clusterctl.messages.events import Text

Count = Annotated[int, msgspec.Meta(ge=0)]


class _Said(msgspec.Struct, frozen=True, kw_only=True, tag_field="is"):
    pass


class Shared(_Said, frozen=True, kw_only=True, tag="here"):
    """The run's directory is the controller's own: there is nothing to send."""


class Listing(_Said, frozen=True, kw_only=True, tag="listing"):
    """``count`` files are coming; ``there`` names some of what the working directory holds."""

    count: Count
    there: tuple[Text, ...] = ()


class Piece(_Said, frozen=True, kw_only=True, tag="piece"):
    """Bytes of a gzip'd tar stream, in order; ``data`` travels as base64."""

    data: bytes


class Done(_Said, frozen=True, kw_only=True, tag="done"):
    """All has been sent. ``skipped``: file -> why it is not whole in the archive."""

    skipped: dict[Text, Text] = {}


class PullRefused(_Said, frozen=True, kw_only=True, tag="refused"):
    """Nothing comes from this node."""

    reason: Text
    there: tuple[Text, ...] = ()


PullMessage = Shared | Listing | Piece | Done | PullRefused

pull_messages: Decoder[PullMessage] = Decoder(PullMessage)

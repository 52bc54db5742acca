"""What a node says while it removes old runs. Tag field: ``is``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from clusterctl.messages.codec import Decoder
from clusterctl.messages.events import Text

Size = Annotated[int, msgspec.Meta(ge=0)]


class _Said(msgspec.Struct, frozen=True, kw_only=True, tag_field="is"):
    pass


class Removal(_Said, frozen=True, kw_only=True, tag="run"):
    """What became of this node's part of a run, which holds ``bytes`` of its disk. ``outputs``: it stays,
    with what its script wrote; ``running``: it has processes; ``absent``: there was nothing."""

    run: Text
    what: Literal["removed", "absent", "running", "outputs", "failed"]
    bytes: Size
    reason: Text = ""


class CleanDone(_Said, frozen=True, kw_only=True, tag="done"):
    """All has been told. ``bytes`` is what the ``snapshots`` held that went."""

    snapshots: Size
    bytes: Size


CleanMessage = Removal | CleanDone

clean_messages: Decoder[CleanMessage] = Decoder(CleanMessage)

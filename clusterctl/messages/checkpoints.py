"""What a node sees of checkpoints before an attempt begins."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from clusterctl.messages.events import Text

Name = Annotated[str, msgspec.Meta(max_length=1024)]


class CheckpointFile(msgspec.Struct, frozen=True, array_like=True):
    """``problem`` says why it cannot be whole; empty where nothing speaks against it."""

    name: Name
    problem: Text = ""


class HostCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One checkpoint as one host sees it. ``expected``: files that its own index names. ``world_size`` is how
    many ranks wrote it, as it says. ``latest``: what the file of that name inside of it says, if there is
    one."""

    tag: Name
    kind: Literal["deepspeed", "shipped", "trainer", "dcp"]
    step: int
    files: tuple[CheckpointFile, ...]
    expected: tuple[Name, ...] = ()
    world_size: int | None = None
    latest: Name | None = None

    @property
    def names(self) -> set[str]:
        return {file.name for file in self.files}

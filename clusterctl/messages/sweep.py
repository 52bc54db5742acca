"""What a node says while it looks for what dead runs left, and ends it. Tag field: ``is``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from clusterctl.messages.codec import Decoder
from clusterctl.messages.events import Text

Count = Annotated[int, msgspec.Meta(ge=0)]
FileKind = Literal["job", "folder", "shm"]


class _Said(msgspec.Struct, frozen=True, kw_only=True, tag_field="is"):
    pass


class LeftProcess(_Said, frozen=True, kw_only=True, tag="process"):
    """A process of ``run`` that lives on, though nobody looks after it any more.

    ``part`` is that of its node, and from the second attempt on of its attempt. ``rank`` is global, None for
    what is no rank's; ``since`` is wall clock, ``memory`` bytes, ``gpu`` MiB of GPU memory.
    """

    run: Text
    part: Text
    pid: Count
    rank: Count | None
    since: float | None
    memory: Count
    gpu: Count | None
    command: Text


class StrayProcess(_Said, frozen=True, kw_only=True, tag="stray"):
    """A process that works in the directory of ``run`` and bears no mark: what the run has left and nobody
    can tell, or a program of the user's own."""

    run: Text
    pid: Count
    command: Text


class LeftFile(_Said, frozen=True, kw_only=True, tag="file"):
    """``job``: what tells the programs of a dead run what to do. ``folder``: a folder of a run in /tmp.
    ``shm``: shared memory that no process has open, of whatever job."""

    kind: FileKind
    path: Text
    run: Text = ""
    bytes: Count = 0


class LivingRun(_Said, frozen=True, kw_only=True, tag="living"):
    """A run that somebody looks after: it is let alone."""

    run: Text
    processes: Count


class SweepDone(_Said, frozen=True, kw_only=True, tag="done"):
    """All has been told. ``left``: processes of those that were to be ended and could not be; ``unremoved``:
    files, each with why."""

    left: Count = 0
    unremoved: tuple[Text, ...] = ()


SweepMessage = LeftProcess | StrayProcess | LeftFile | LivingRun | SweepDone

sweep_messages: Decoder[SweepMessage] = Decoder(SweepMessage)

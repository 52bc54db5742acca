"""What a node shows of ranks: what they have done, and when they seem to hang processes, stacks, and torch's
flight recorder.

Nothing of it is ever unpickled or run. Texts are as the node sent them: a renderer makes them harmless.
"""

from __future__ import annotations

import msgspec

from clusterctl.messages.events import Rank, Text


class RankActivity(msgspec.Struct, frozen=True, array_like=True):
    """Counters of one rank and all it has started. They grow while it works; ``exchanged`` may shrink when
    connections are closed. ``printed`` is the size of its log, ``cpu`` seconds, ``faults`` pages touched
    first, ``exchanged`` bytes of its TCP connections with other ranks, ``moved`` bytes of its other reads and
    writes, ``written`` those that its own process wrote to a disk. ``compilers``: programs by name that
    compile for it now. ``raised``: an exception has ended its script, though it still runs."""

    rank: Rank
    printed: int
    cpu: float
    faults: int
    exchanged: int
    moved: int
    written: int = 0
    compilers: tuple[Text, ...] = ()
    raised: bool = False


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One Python frame. ``line`` is 0 where it is not known."""

    file: Text
    line: int
    function: Text


class ThreadStack(msgspec.Struct, frozen=True, kw_only=True):
    """``frames`` begin with the innermost. ``main``: the thread that runs the script."""

    name: Text = ""
    main: bool = False
    frames: tuple[Frame, ...] = ()


class ProcessLook(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a rank, from ``/proc``. ``state`` is the kernel's letter (R, S, D, T, t, Z) of its main
    thread. ``cpu`` is seconds of CPU it has used, ``read`` and ``written`` are bytes that reached a disk;
    ``copied`` those of all its writes but to sockets, files in memory included; None where they cannot be
    read. ``major_faults``: pages it had to wait for (swap, files)."""

    pid: int
    parent: int
    command: Text
    state: str
    wchan: Text = ""
    cpu: float = 0.0
    read: int | None = None
    written: int | None = None
    copied: int | None = None
    major_faults: int = 0


class Collective(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the flight recorder. ``sequence`` counts the collectives of its ``group``; ``done``: the
    rank that recorded it has finished with it. ``operation`` bears its backend: ``gloo:all_reduce``."""

    group: Text
    sequence: int
    operation: Text
    input_sizes: tuple[tuple[int, ...], ...] = ()
    output_sizes: tuple[tuple[int, ...], ...] = ()
    dtypes: tuple[Text, ...] = ()
    point_to_point: bool = False
    started: bool = False
    done: bool = False
    created: float = 0.0
    """Seconds since the epoch, by the node's clock."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One process group as a rank knows it. ``ranks`` are global, empty where torch does not say. A count of
    -1: torch does not say either."""

    name: Text
    description: Text = ""
    ranks: tuple[Rank, ...] = ()
    last_enqueued: int = -1
    last_started: int = -1
    last_completed: int = -1


class Recorder(msgspec.Struct, frozen=True, kw_only=True):
    """The newest entries of a rank's flight recorder, oldest first, and the state of its groups."""

    groups: tuple[Group, ...] = ()
    collectives: tuple[Collective, ...] = ()


class RankEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One rank at one moment. ``processes`` begin with the rank's own; its descendants follow.

    ``source`` says who told the stacks: torch's debug server, faulthandler's signal, py-spy, or nobody.
    ``unseen`` says in words what could not be had, and why. ``sent`` and ``received`` are bytes of the TCP
    connections with other ranks it has open, less those with torch's store; ``internet`` those of connections
    with addresses of the internet. None where they cannot be read. ``raised`` is what has ended its script,
    as ``ValueError: why``.
    """

    rank: Rank
    processes: tuple[ProcessLook, ...] = ()
    threads: tuple[ThreadStack, ...] = ()
    source: str = ""
    recorder: Recorder | None = None
    sent: int | None = None
    received: int | None = None
    internet: int | None = None
    raised: Text = ""
    unseen: tuple[Text, ...] = ()


class HostEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """All ranks of one node at one moment. ``time`` is the node's wall clock. ``swapped``: pages that went to
    and came from swap since boot, None where unknown. ``look`` numbers the looks of a run, from 1."""

    look: int
    time: float
    ranks: tuple[RankEvidence, ...] = ()
    swapped: int | None = None

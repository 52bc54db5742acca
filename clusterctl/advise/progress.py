"""What a rank did between two looks. Pure.

A false "it works" costs a later look; a false "it does nothing" costs a healthy run. Thresholds lie where
idle processes do not reach: watchdog threads, metrics and heartbeats cost about a hundredth of a core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from clusterctl.advise import places
from clusterctl.messages.evidence import ProcessLook, RankEvidence, Recorder

_BUSY = 0.03
"""Of one core, by one process."""
_DISK = 4096.0
"""Bytes per second of one process that reach a disk, or come from it."""
_COPIED = 512.0
"""Bytes per second that one process writes, wherever to. What faulthandler writes at a look is less."""
_TRAFFIC = 32_768.0
"""Bytes per second on a rank's connections."""
_INTERNET = 4096.0
"""Bytes per second from and to the whole world, which is more than dashboards are told."""
_FAULTS = 10.0
"""Pages per second that a process waits for."""
_USUAL = 30.0
_SHELLS = ("sh", "bash", "dash", "zsh", "env", "numactl", "taskset", "nice")


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """``comparable``: both looks saw this rank, the same process. ``moved``: its stack, its collectives or
    its connections changed; ``walked``: its stack did. Seconds of CPU and bytes are those of the whole time
    between the looks."""

    comparable: bool = True
    moved: bool = False
    walked: bool = False
    seconds: float = _USUAL
    own_cpu: float = 0.0
    child_cpu: float = 0.0
    busiest_child: str = ""
    disk: int = 0
    copied: int = 0
    faults: float = 0.0
    traffic: int = 0
    internet: int = 0
    children_changed: bool = False

    @property
    def busy(self) -> bool:
        """Its own process computes, or spins."""
        return self.own_cpu >= max(_BUSY * self.seconds, 0.1)

    @property
    def children_busy(self) -> bool:
        return self.child_cpu >= max(_BUSY * self.seconds, 0.1)

    @property
    def disk_busy(self) -> bool:
        return self.disk >= _DISK * self.seconds

    @property
    def copies(self) -> bool:
        """It writes, and be it to files in memory. In a rank that saves nothing this means nothing: threads
        that only measure do so as well."""
        return self.copied >= _COPIED * self.seconds

    @property
    def fetches(self) -> bool:
        return self.internet >= _INTERNET * self.seconds

    @property
    def faulting(self) -> bool:
        return self.faults >= _FAULTS


def progress(first: RankEvidence | None, second: RankEvidence | None, seconds: float) -> Progress:
    """What happened between the two looks at one rank, which are ``seconds`` apart."""
    if first is None or second is None:
        return Progress(comparable=False)
    earlier, own = script(first.processes), script(second.processes)
    if earlier is None or own is None or earlier.pid != own.pid:
        return Progress(comparable=False)
    if not 0.0 < seconds < 86_400.0:
        seconds = _USUAL
    before = {process.pid: process for process in first.processes}
    children = [process for process in second.processes if process is not own]
    busiest = max(children, key=lambda child: _cpu(before, child), default=None)
    return Progress(
        moved=_moved(first, second, seconds),
        walked=_walked(first, second),
        seconds=seconds,
        own_cpu=_cpu(before, own),
        child_cpu=_cpu(before, busiest) if busiest is not None else 0.0,
        busiest_child=busiest.command if busiest is not None else "",
        disk=max(_disk(before, process) for process in second.processes),
        copied=max(_copied(before, process) for process in second.processes),
        faults=max(_faults(before, process) for process in second.processes) / seconds,
        traffic=_traffic(first, second),
        internet=max((second.internet or 0) - (first.internet or 0), 0),
        children_changed={each.pid for each in first.processes} != {each.pid for each in second.processes},
    )


def script(processes: Sequence[ProcessLook]) -> ProcessLook | None:
    """The process of the script: the rank's own, or the first python below it where that is a shell."""
    pythons = (each for each in processes if _program(each).startswith("python"))
    first = processes[0] if processes else None
    if first is not None and _program(first) in _SHELLS:
        return next(pythons, first)
    return first


def _program(process: ProcessLook) -> str:
    return process.command.partition(" ")[0].rpartition("/")[2]


def _moved(first: RankEvidence, second: RankEvidence, seconds: float) -> bool:
    if _walked(first, second):
        return True
    if _counts(first.recorder) != _counts(second.recorder) and None not in (first.recorder, second.recorder):
        return True
    return _traffic(first, second) >= _TRAFFIC * seconds


def _walked(first: RankEvidence, second: RankEvidence) -> bool:
    before, after = places.main_thread(first.threads), places.main_thread(second.threads)
    return before is not None and after is not None and before.frames != after.frames


def _counts(recorder: Recorder | None) -> object:
    """What grows in a flight recorder; not which of its entries were sent."""
    if recorder is None:
        return None
    entered: dict[tuple[str, str, bool], int] = {}
    done: dict[tuple[str, str, bool], int] = {}
    for each in recorder.collectives:
        key = (each.group, each.operation.partition(":")[0], each.point_to_point)
        entered[key] = max(entered.get(key, 0), each.sequence)
        if each.done:
            done[key] = max(done.get(key, 0), each.sequence)
    groups = {(group.name, group.last_enqueued, group.last_completed) for group in recorder.groups}
    return entered, done, groups


def _traffic(first: RankEvidence, second: RankEvidence) -> int:
    pairs = ((first.sent, second.sent), (first.received, second.received))
    return sum(max(after - before, 0) for before, after in pairs if before is not None and after is not None)


def _cpu(before: Mapping[int, ProcessLook], now: ProcessLook) -> float:
    then = before.get(now.pid)
    return max(now.cpu - (then.cpu if then is not None else 0.0), 0.0)


def _disk(before: Mapping[int, ProcessLook], now: ProcessLook) -> int:
    then = before.get(now.pid)
    read = (then.read or 0 if then is not None else 0, now.read)
    written = (then.written or 0 if then is not None else 0, now.written)
    return sum(max(after - earlier, 0) for earlier, after in (read, written) if after is not None)


def _copied(before: Mapping[int, ProcessLook], now: ProcessLook) -> int:
    then = before.get(now.pid)
    if now.copied is None or (then is not None and then.copied is None):
        return 0
    return max(now.copied - (then.copied or 0 if then is not None else 0), 0)


def _faults(before: Mapping[int, ProcessLook], now: ProcessLook) -> int:
    then = before.get(now.pid)
    return max(now.major_faults - then.major_faults, 0) if then is not None else 0

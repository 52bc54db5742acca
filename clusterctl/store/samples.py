"""The samples of a host in a run, read at once or as they come."""

from __future__ import annotations

from clusterctl.plan.model import LaunchPlan
from clusterctl.store.log_tail import LogTail
from clusterctl.store.runs import RunDirectory
from clusterctl.store.sample import Sample, SampledHost, decode

_LONGEST = 1 << 16
_NEWEST = 1 << 17


class SamplesTail:
    """Reads on where it stopped; of one attempt."""

    def __init__(self, directory: RunDirectory, plan: LaunchPlan, host: str) -> None:
        self.host: SampledHost | None = None
        """What the newest samples are of."""
        self._tail = LogTail(directory.host_logs(host) / plan.samples, plan.log_limit)
        self._rest = b""

    def news(self) -> list[Sample]:
        """In the order of time. Raises OSError."""
        found = []
        for data in self._tail.news():
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._rest = self._rest[:_LONGEST]
            for each in map(decode, lines):
                if isinstance(each, SampledHost):
                    self.host = each
                elif each is not None:
                    found.append(each)
        return found


def newest_samples(directory: RunDirectory, plan: LaunchPlan, host: str) -> list[Sample]:
    """Those of its last minutes, oldest first; none where they cannot be read."""
    try:
        with (directory.host_logs(host) / plan.samples).open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - _NEWEST))
            lines = stream.read().splitlines()
    except OSError:
        return []
    return [each for each in map(decode, lines) if isinstance(each, Sample)]


def read_samples(directory: RunDirectory, host: str) -> list[Sample]:
    """Of all attempts, oldest first. Raises OSError, and ClusterctlError as `RunDirectory.plan`."""
    found = []
    for attempt in range(1, directory.newest_attempt() + 1):
        found += SamplesTail(directory, directory.plan(attempt), host).news()
    return found

"""What hosts say in `top`, moment by moment: heard, kept in a file, and read from there again."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import msgspec

from clusterctl.errors import UsageError, in_words
from clusterctl.messages.top import HostSeen
from clusterctl.store.sample import GpuSample, Sample

TICK = 0.2
"""Seconds after which whoever listens may stop."""
_LONGEST_PAUSE = 2.0


class News(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a recording: what a host did, or why nothing is known of it."""

    at: float
    host: str
    seen: HostSeen | None = None
    problem: str = ""


def replayed(news: Sequence[News], *, pace: bool = True) -> Generator[News | None, None, None]:
    """A recording, with ``pace`` at that it was made at, but for long pauses."""
    before = news[0].at if news else 0.0
    for each in news:
        until = time.monotonic() + min(max(each.at - before, 0.0), _LONGEST_PAUSE)
        before = each.at
        while pace and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, TICK))
            yield None
        yield each


def sample_of(seen: HostSeen, at: float) -> Sample:
    """The same as runs keep it of their hosts."""
    cards = tuple(
        None
        if gpu is None
        else GpuSample(gpu.use, gpu.memory, gpu.temperature, gpu.watts, None, gpu.held_back)
        for gpu in seen.gpus or ()
    )
    return Sample(time=at, cpu=seen.cpu, memory=seen.memory, gpus=cards if seen.gpus is not None else None)


def write_news(news: News) -> str:
    """A line of a recording, with its end."""
    return msgspec.json.encode(news).decode() + "\n"


def read_news(path: Path) -> Iterator[News]:
    """Those of a recording. Raises UsageError where it is none, with the line."""
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    return  # it is being written
                try:
                    yield msgspec.json.decode(line, type=News)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    raise UsageError(
                        f"{path} line {number} is no recording of top: {in_words(error)}",
                        hint="clusterctl top --record FILE makes one",
                    ) from error
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="name a file of top --record"
        ) from error

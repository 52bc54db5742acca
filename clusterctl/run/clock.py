"""The clock of a controller: who sets this machine's time of day moves nothing in it."""

from __future__ import annotations

import time

import msgspec

from clusterctl.store.claims import boot_id

# Goes on while this machine sleeps, so that the sleep is seen as a gap.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds since boot, sleep included: the same for all processes."""
    return time.clock_gettime(_CLOCK)


def as_now(at: float) -> float:
    """A moment of the wall clock by this clock, as long as nobody has set the other since."""
    return now() - time.time() + at


class Moment(msgspec.Struct, frozen=True):
    """One moment by both clocks, to be written down."""

    boot: str
    now: float
    time: float

    @classmethod
    def here(cls) -> Moment:
        return cls(boot_id(), now(), time.time())

    @property
    def shift(self) -> float:
        """What is to be added to seconds of the clock that has written this, for the clock of this boot."""
        return 0.0 if self.boot == boot_id() else as_now(self.time) - self.now

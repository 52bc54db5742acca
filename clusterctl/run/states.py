"""The states of a run and of each of its hosts, as docs/launch.md names them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class RunState(Enum):
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    OVER = "over"


class HostState(Enum):
    LINKED = "linked"
    RECONNECTING = "reconnecting"
    ENDED = "ended"
    """Nothing of the run lives there; its logs are still coming."""
    COMPLETE = "complete"
    LOST = "lost"
    UNCONFIRMED = "unconfirmed"
    """It was told to stop and did not say in time that it has."""


class Span(NamedTuple):
    """Seconds of the machine's clock."""

    start: float
    end: float

    def shared(self, other: Span) -> float:
        """How much of both is one time; not above 0 where none is."""
        return min(self.end, other.end) - max(self.start, other.start)


@dataclass
class HostRecord:
    """What the machine knows of one host. Times are those of the machine's clock."""

    host: str
    ranks: tuple[int, ...]
    heard: float
    """When it was last known to live: silence counts from here."""
    last_word: float
    """When it really was heard last."""
    opened: float
    """When its present channel was opened; nothing may have come through it yet."""
    progress: float
    """When it last told something new: an event, bytes of a log."""
    linked: bool = True
    answered: bool = True
    """Something has come through the present channel."""
    retry_at: float | None = None
    tries: int = 0
    unreachable: bool = False
    """A try to connect to it has failed since it was last heard."""
    reachable: bool | None = None
    """What another host found over the training network."""
    asked: float | None = None
    """When another host was asked last."""
    met: float | None = None
    """When it was heard first by this controller."""
    silence: Span | None = None
    """The last time for which no heartbeat of it came."""
    engine: bool = False
    ordered: bool = False
    """Its agent was told to stop before any of its ranks had failed."""
    ended: bool = False
    ended_at: float = 0.0
    """When it was heard that it has."""
    complete: bool = False
    lost: bool = False
    unconfirmed: bool = False
    left: int | None = None
    exits: dict[int, int] = field(default_factory=dict)
    early: dict[int, float] = field(default_factory=dict)

    @property
    def state(self) -> HostState:
        if self.lost:
            return HostState.LOST
        if self.unconfirmed:
            return HostState.UNCONFIRMED
        if self.complete:
            return HostState.COMPLETE
        if self.ended:
            return HostState.ENDED
        return HostState.LINKED if self.linked else HostState.RECONNECTING

    @property
    def over(self) -> bool:
        """Whether nothing more is waited for from it."""
        return self.lost or self.unconfirmed or self.complete

    @property
    def exited(self) -> bool:
        """Whether all of its ranks have ended."""
        return all(rank in self.exits for rank in self.ranks)

    def hear(self, now: float) -> bool:
        """Anything came from it. True when it is the first word after a broken channel."""
        first = not self.answered and self.tries > 0
        self.met = now if self.met is None else self.met
        self.heard = self.last_word = now
        self.answered = True
        self.reachable = self.asked = None
        self.unreachable = False
        self.tries = 0
        return first

    def stood_still(self, gap: float) -> None:
        """This machine did: nobody else was silent in that time."""
        self.heard += gap
        self.opened += gap
        self.progress += gap
        self.ended_at += gap
        self.reachable = self.asked = None

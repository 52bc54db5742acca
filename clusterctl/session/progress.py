"""What a caller may show while hosts are being asked. A session itself shows nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol


class Asking(Protocol):
    """Told while hosts are asked, in the thread that asks."""

    def answered(self, host: str, answer: object, /) -> None:
        """``host`` told its facts, or failed to; once for each."""
        ...

    def awaiting(self, kind: str, hosts: Sequence[str], /) -> None:
        """After their facts, ``hosts`` are waited for: ``listening``, ``dialled``, ``pong``, ``torch``,
        ``nccl``, ``nccl-held`` or ``next``, or a few words for people; none when all have given that. May be
        called often."""
        ...


Progress = Callable[[Sequence[str]], AbstractContextManager[Asking]]
"""Called with the hosts."""


class Silent:
    """Shows nothing."""

    def __init__(self, hosts: Sequence[str]) -> None:
        pass

    def __enter__(self) -> Silent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def answered(self, host: str, answer: object, /) -> None:
        pass

    def awaiting(self, kind: str, hosts: Sequence[str], /) -> None:
        pass

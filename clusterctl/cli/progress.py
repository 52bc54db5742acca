"""One living line on stderr while hosts are being asked; nothing at all where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from clusterctl.inventory.fold import fold

_NAMED = 3


class Asking:
    """A context manager; `answered` is called once per host. ``then`` says what goes on after the last."""

    def __init__(self, hosts: Sequence[str], then: str) -> None:
        self._hosts = tuple(hosts)
        self._waiting = dict.fromkeys(hosts)
        self._then = then
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[late]}"),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("asking the hosts", total=len(hosts), late="")

    def __enter__(self) -> Asking:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def answered(self, host: str, _answer: object) -> None:
        """``host`` told its facts, or failed to."""
        self._waiting.pop(host, None)
        left = tuple(self._waiting)
        late = f"waiting for {fold(left)}" if 0 < len(left) <= _NAMED else ""
        self._progress.update(self._task, completed=len(self._hosts) - len(left), late=late)
        if not left:
            self._progress.update(self._task, description=self._then)

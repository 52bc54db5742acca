"""One living line on stderr while hosts are being asked; nothing at all where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

_NAMED = 3
_PHASES = {
    "facts": "asking the hosts",
    "listening": "opening ports for traffic",
    "dialled": "sending traffic between the hosts",
    "pong": "comparing clocks",
    "torch": "importing torch",
    "nccl": "asking NCCL which address it takes",
    "nccl-held": "asking NCCL whether it still listens",
    "ranks": "one all-reduce over all hosts",
    "next": "getting ready to start",
}


class Asking:
    """A context manager. The bar counts hosts, from none to all in every phase: full means done."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = tuple(hosts)
        self._silent = dict.fromkeys(hosts)
        # Without a terminal rich is not even loaded: it costs as much as three hosts.
        self._progress = _bar() if _is_seen() else None
        if self._progress is not None:
            self._task = self._progress.add_task(_PHASES["facts"], total=len(hosts), late="")

    def __enter__(self) -> Asking:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def answered(self, host: str, _answer: object, /) -> None:
        """``host`` told its facts, or failed to."""
        self._silent.pop(host, None)
        if self._progress is not None:
            self.awaiting("facts", tuple(self._silent))

    def awaiting(self, kind: str, hosts: Sequence[str], /) -> None:
        """``hosts`` have not yet given their answer of this ``kind``."""
        if self._progress is None:
            return
        from clusterctl.report.findings import brief

        waited = f"waiting for {brief(hosts)}" if 0 < len(hosts) <= _NAMED else ""
        self._progress.update(
            self._task,
            description=_PHASES.get(kind, kind),
            completed=len(self._hosts) - len(hosts),
            late=waited,
        )


def _bar() -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    from clusterctl.cli.screen import err

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[late]}", style="dim", markup=False),
        console=err(),
        transient=True,
        disable=err().is_dumb_terminal,
    )


def _is_seen() -> bool:
    return sys.stderr.isatty()

"""One living line on stderr while hosts are being asked; nothing at all where stderr is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

    from clusterctl.report.moved import Moved

_NAMED = 3
_PHASES = {
    "facts": "asking the hosts",
    "listening": "opening ports for traffic",
    "dialled": "sending traffic between hosts",
    "pong": "comparing clocks",
    "torch": "importing torch",
    "nccl": "asking NCCL for its address",
    "nccl-held": "asking NCCL whether it listens",
    "ranks": "one all-reduce over all hosts",
    "receiving": "getting ready to measure TCP",
    "sent": "measuring TCP between hosts",
    "computed": "multiplying matrices",
    "dcgm": "asking DCGM",
    "next": "getting ready to start",
}


class Asking:
    """A context manager. The bar counts hosts, from none to all in every phase: full means done. Without
    hosts there is none: something is done here."""

    def __init__(self, hosts: Sequence[str], what: str = _PHASES["facts"]) -> None:
        """``what`` is being done until something else is awaited."""
        self._hosts = tuple(hosts)
        self._silent = dict.fromkeys(hosts)
        self._what = what
        self._arrived: dict[str, int] = {}
        self._moved: Moved | None = None
        # Without a terminal rich is not even loaded: it costs as much as three hosts.
        self._progress = _bar(self, hosts=bool(hosts)) if _is_seen() else None
        if self._progress is not None:
            self._task = self._progress.add_task("", total=len(hosts), late="")
            self.awaiting("facts", self._hosts)

    def __enter__(self) -> Asking:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def answered(self, host: str, _answer: object = None, /) -> None:
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
            description=self._what if kind == "facts" else _PHASES.get(kind, kind),
            completed=len(self._hosts) - len(hosts),
            late=waited,
        )

    def arrived(self, host: str, count: int) -> None:
        """So many bytes have come from ``host`` by now."""
        self._arrived[host] = count

    def doing(self, described: str, now: float) -> str:
        """What stands before the bar: bytes and their rate, once there are any."""
        if not self._arrived:
            return described
        if self._moved is None:
            from clusterctl.report.moved import Moved

            self._moved = Moved()
        return self._moved.text(sum(self._arrived.copy().values()), now)


def _bar(asking: Asking, *, hosts: bool) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TimeElapsedColumn,
    )
    from rich.table import Column
    from rich.text import Text

    from clusterctl.cli.screen import err

    class Doing(ProgressColumn):
        """Asked anew at each refresh: a rate sinks while nothing comes."""

        def render(self, task: Task) -> Text:
            return Text(asking.doing(task.description, time.monotonic()))

    class Late(ProgressColumn):
        """What is cut off where the line is longer than the terminal is wide: it stays one line."""

        def render(self, task: Task) -> Text:
            return Text(task.fields["late"], style="dim", no_wrap=True, overflow="ellipsis")

    def whole() -> Column:
        return Column(no_wrap=True)

    bar = BarColumn(bar_width=10, table_column=whole())
    counted: tuple[ProgressColumn, ...] = (bar, MofNCompleteColumn(table_column=whole())) if hosts else ()
    return Progress(
        SpinnerColumn(table_column=whole()),
        Doing(table_column=whole()),
        *counted,
        TimeElapsedColumn(table_column=whole()),
        Late(),
        console=err(),
        transient=True,
        disable=err().is_dumb_terminal,
    )


def _is_seen() -> bool:
    return sys.stderr.isatty()

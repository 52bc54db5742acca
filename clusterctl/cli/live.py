"""The live output of an attached run: whole lines, each behind the host and rank it comes from."""

from __future__ import annotations

import colorsys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain

from clusterctl.cli.terminal import Terminal
from clusterctl.plan.model import LaunchPlan
from clusterctl.report.harmless import harmless, is_plain, last_state, plain_output
from clusterctl.run.display import Display

_RESET = b"\x1b[0m"
_DIM = b"\x1b[2m"
_LONGEST = 16 << 10
"""Bytes shown of one line."""
_STANDING = 1.0
"""A line that has no end after so many seconds is shown without it on a terminal,"""
_OVERDUE = 5.0
"""and after so many, and then this often, on a pipe or in a file."""
_AGAIN = 10.0
_FOOTER = 8
_TOGETHER = 8 << 10
"""Bytes of lines put on the terminal in one piece, which is shown or skipped whole."""


class _Unfinished:
    """The beginning of a line, or the last state of one that a progress bar rewrites."""

    def __init__(self, now: float) -> None:
        self.state = b""
        self.length = 0
        self.since = now
        self.shown = b""
        self.shown_at = 0.0

    def add(self, data: bytes) -> None:
        # A bar may be redrawn for days without the end of its line: no more than its last state is kept.
        if b"\r" in data or self.state.endswith(b"\r"):
            whole = self.state + data
            last = last_state(whole)
            self.length = self.length if last == self.text() else len(last)
            self.state = last[:_LONGEST] + (b"\r" if whole.endswith(b"\r") else b"")
        else:
            self.length += len(data)
            self.state += data[: max(0, _LONGEST - len(self.state))]

    @property
    def cut(self) -> int:
        """Bytes of the whole line when not all of it is kept."""
        return self.length if self.length > _LONGEST else 0

    def text(self) -> bytes:
        return last_state(self.state)


class LiveOutput(Display):
    """Puts lines on a `Terminal`. A rank's own colours stay; nothing else that steers a terminal does.

    A line a progress bar rewrites is printed in its last state; while it has no end, it stands below
    everything else on a terminal, and is printed now and then elsewhere. ``engine`` shows the engine's own
    talk as well; without it, that stays in the run directory. ``bare``: lines without host and rank.
    ``paint`` makes the escape sequence of a colour, None where there are no colours.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        terminal: Terminal,
        *,
        paint: Callable[[int, int, int], bytes] | None,
        encoding: str = "utf-8",
        engine: bool = False,
        bare: bool = False,
    ) -> None:
        self.stamp = ""
        """What stands before each whole line."""
        self._terminal = terminal
        self._colour = paint is not None
        self._encoding = encoding
        self._engine = engine
        self._bare = bare
        self._lock = threading.Lock()
        self._unfinished: dict[tuple[str, str], _Unfinished] = {}
        self._awaited = ""
        self._heard = False
        self._awaited_since = self._awaited_shown_at = 0.0
        self._awaited_shown = ""
        self._style = {node.host: paint(*hue(node.node_rank)) if paint else b"" for node in plan.nodes}
        widest = max(len(_label(node.host, f"rank-{max(node.ranks)}")) for node in plan.nodes)
        self._width = max(widest, len("clusterctl"))
        if engine:
            self._width = max(self._width, *(len(_label(node.host, "agent")) for node in plan.nodes))
        terminal.attach(self)

    # Display

    def say(self, text: str) -> None:
        for line in harmless(text).splitlines() or [""]:
            self._terminal.put(self._line(_DIM, "clusterctl", line), keep=True)

    def awaiting(self, text: str) -> None:
        """Nothing of it is shown once a rank has printed: that says more than what it may still import."""
        with self._lock:
            if self._heard:
                return
            now = time.monotonic()
            if not self._awaited:
                self._awaited_since = now
            self._awaited = harmless(text)

    def ending(self, text: str) -> None:
        with self._lock:
            self._heard = False
        self.awaiting(text)

    def output(self, host: str, name: str, data: bytes) -> None:
        if name.startswith("agent.") and not self._engine:
            return
        ready: list[bytes] = []
        with self._lock:
            self._awaited, self._heard = "", self._heard or name.startswith("rank-")
            lines, newline, rest = data.rpartition(b"\n")
            unfinished = self._unfinished.pop((host, name), None)
            if unfinished is not None and newline:
                first, newline, lines = lines.partition(b"\n")
                unfinished.add(first)
                ready.append(self._whole(host, name, unfinished.text(), cut=unfinished.cut))
                unfinished = None
            if rest:
                unfinished = unfinished or _Unfinished(time.monotonic())
                unfinished.add(rest)
            if unfinished is not None:
                self._unfinished[host, name] = unfinished
        # Without the lock: the terminal may wait for its reader, and its thread for the lock.
        for line in chain(ready, self._together(host, name, lines) if newline else ()):
            self._terminal.put(line)

    def flush(self) -> None:
        """Print lines that never got their end."""
        with self._lock:
            ready = [
                self._whole(host, name, line.text(), cut=line.cut)
                for (host, name), line in self._unfinished.items()
                if line.text()
            ]
            self._unfinished.clear()
            self._awaited = ""
        for text in ready:
            self._terminal.put(text)

    # Source: lines without an end, asked for by the terminal's thread

    def footer(self, columns: int) -> list[bytes]:
        with self._lock:
            now = time.monotonic()
            rows = [
                (self._style.get(host, _DIM), _label(host, name), plain_output(line.text(), colours=False))
                for (host, name), line in self._unfinished.items()
                if line.text() and now - line.since >= _STANDING
            ]
            if len(rows) > _FOOTER:
                more = (_DIM, "", f"and {len(rows) - _FOOTER + 1} more lines without an end")
                rows = [*rows[: _FOOTER - 1], more]
            if self._awaited and now - self._awaited_since >= _STANDING:
                rows.append((_DIM, "clusterctl", f"{self._awaited} ({now - self._awaited_since:.0f} s)"))
        return [self._line(style, label, text, columns=columns - 1) for style, label, text in rows]

    def overdue(self) -> list[bytes]:
        with self._lock:
            now = time.monotonic()
            found = []
            for (host, name), line in self._unfinished.items():
                due = now - line.since >= _OVERDUE and now - line.shown_at >= _AGAIN
                if due and line.text() not in (b"", line.shown):
                    line.shown, line.shown_at = line.text(), now
                    style = self._style.get(host, _DIM)
                    found.append(self._line(style, _label(host, name), self._plain(line.shown)))
            due = now - self._awaited_since >= _OVERDUE and now - self._awaited_shown_at >= _AGAIN
            if due and self._awaited not in ("", self._awaited_shown):
                self._awaited_shown, self._awaited_shown_at = self._awaited, now
                found.append(self._line(_DIM, "clusterctl", self._awaited))
        return found

    def _together(self, host: str, name: str, lines: bytes) -> Iterator[bytes]:
        """Whole lines, less the last one's end, as they are shown. Of those that are plain many go at once,
        and none is looked at: ranks may print fast."""
        if self._encoding == "utf-8" and is_plain(lines) and _are_short(lines):
            prefix = self._line(self._style.get(host, _DIM), _label(host, name), "")[:-1]
            begin = 0
            while begin <= len(lines):
                end = lines.find(b"\n", begin + _TOGETHER)
                some = lines[begin : end if end >= 0 else len(lines)]
                yield prefix + some.replace(b"\n", b"\n" + prefix) + b"\n"
                begin += len(some) + 1
            return
        for line in lines.split(b"\n"):
            if len(line) <= _LONGEST:
                yield self._whole(host, name, last_state(line))
            else:
                whole = _Unfinished(0.0)
                whole.add(line)
                yield self._whole(host, name, whole.text(), cut=whole.cut)

    def _whole(self, host: str, name: str, line: bytes, *, cut: int = 0) -> bytes:
        text = self._plain(line)
        if cut:
            text += f" ... ({cut:,} bytes in one line, all in logs/)"
        return self._line(self._style.get(host, _DIM), _label(host, name), text)

    def _plain(self, line: bytes) -> str:
        return plain_output(line, colours=self._colour)

    def _line(self, style: bytes, label: str, text: str, *, columns: int | None = None) -> bytes:
        prefix = self.stamp + ("" if self._bare else f"{label:<{self._width}} │ ")
        if columns is not None:
            from rich.cells import set_cell_size

            text = set_cell_size(text.expandtabs(), max(0, columns - len(prefix))).rstrip()
        shown = prefix.encode(self._encoding, "clusterctl")
        if self._colour and prefix:
            shown = style + shown + _RESET
        return shown + text.encode(self._encoding, "clusterctl") + (b"" if columns is not None else b"\n")


def _are_short(lines: bytes) -> bool:
    begin = 0
    while len(lines) - begin > _LONGEST:
        end = lines.rfind(b"\n", begin, begin + _LONGEST + 1)
        if end < 0:
            return False
        begin = end + 1
    return True


def _label(host: str, name: str) -> str:
    kind = name.partition(".")[0]
    if kind == "deepspeed":
        return kind
    rank = kind.partition("-")[2] or "engine"
    return harmless(f"{host} {rank}")


def hue(node_rank: int) -> tuple[int, int, int]:
    """A colour of its own for each host; neighbours differ most (the golden ratio spreads them). Never red,
    which says that something is wrong."""
    angle = 60 + 240 * ((0.5 + node_rank * 0.618) % 1.0)
    red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(angle / 360, 0.55, 0.55))
    return red, green, blue

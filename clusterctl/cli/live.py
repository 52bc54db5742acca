"""The live output of an attached run: whole lines, each behind the host and rank it comes from."""

from __future__ import annotations

import colorsys
import io
from typing import BinaryIO

from clusterctl.cli.screen import unseen
from clusterctl.plan.model import LaunchPlan
from clusterctl.run.supervise import Screen

_RESET = b"\x1b[0m"
_DIM = b"\x1b[2m"


class LiveOutput(Screen):
    """Bytes of a line go through untouched. A line a progress bar rewrites shows its last state.

    ``engine`` shows the engine's own talk as well; without it, that stays in the run directory.
    """

    def __init__(self, plan: LaunchPlan, stream: BinaryIO, *, colour: bool, engine: bool = False) -> None:
        self._stream = stream
        self._colour = colour
        self._engine = engine
        self._partial: dict[tuple[str, str], bytes] = {}
        self._style = {node.host: _hue(node.node_rank) for node in plan.nodes}
        widest = max(len(_label(node.host, f"rank-{max(node.ranks)}.log")) for node in plan.nodes)
        self._width = max(widest, len("clusterctl"))
        if engine:
            self._width = max(self._width, *(len(_label(node.host, "agent.log")) for node in plan.nodes))

    def say(self, text: str) -> None:
        self._write(_DIM, "clusterctl", text.encode("utf-8", "backslashreplace"))

    def output(self, host: str, name: str, data: bytes) -> None:
        if name == "agent.log" and not self._engine:
            return
        *lines, rest = (self._partial.get((host, name), b"") + data).split(b"\n")
        # A bar may be redrawn for days without the end of its line: no more than its last state is kept.
        self._partial[host, name] = _last_state(rest) + (b"\r" if rest.endswith(b"\r") else b"")
        for line in lines:
            self._write(self._style.get(host, _DIM), _label(host, name), _last_state(line))

    def flush(self) -> None:
        """Print lines that never got their end."""
        for (host, name), rest in self._partial.items():
            if rest:
                self._write(self._style.get(host, _DIM), _label(host, name), _last_state(rest))
        self._partial.clear()

    def _write(self, style: bytes, label: str, line: bytes) -> None:
        prefix = f"{label:<{self._width}} │ ".encode()
        if self._colour:
            prefix = style + prefix + _RESET
        self._put(prefix + line + b"\n")

    def _put(self, data: bytes) -> None:
        """Write and flush. When nobody can read it any more (`launch | head`, a terminal that was closed, a
        full disk behind a redirection), the run goes on unseen.
        """
        try:
            self._stream.write(data)
            self._stream.flush()
        except OSError:
            self._stream = io.BytesIO()
            unseen()


def _last_state(line: bytes) -> bytes:
    """What a terminal would show of a line that carriage returns rewrote."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


def _label(host: str, name: str) -> str:
    if name == "deepspeed.log":
        return "deepspeed"
    rank = name.partition("-")[2].partition(".")[0] or "engine"
    return f"{host} {rank}"


def _hue(node_rank: int) -> bytes:
    """A colour of its own for each host; neighbours differ most (the golden ratio spreads the hues)."""
    red, green, blue = (
        round(255 * part) for part in colorsys.hls_to_rgb(node_rank * 0.618 % 1.0, 0.55, 0.55)
    )
    return b"\x1b[38;2;%d;%d;%dm" % (red, green, blue)

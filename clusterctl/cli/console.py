"""rich's console, with everything that is printed made harmless."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from clusterctl.report.harmless import harmless

_TRAILING = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$", re.MULTILINE)


class HarmlessConsole(Console):
    """Text that steers a terminal is shown written out, wherever in a page it stands."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(harmless(segment.text), segment.style)

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        # rich pads cells and wrapped lines to their full width, which nobody wants in what they copy; but a
        # picture that is drawn over another one hides that by it.
        text = super()._render_buffer(buffer)
        return text if self.is_alt_screen else _TRAILING.sub(r"\1", text)

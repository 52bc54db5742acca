"""Server-sent events: what has changed of a page, as bytes. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from clusterctl.report.harmless import harmless
from clusterctl.report.html.live import Shown

PULSE = b": still here\n\n"
_HAVE = re.compile(r"([a-z]{1,20})\.([0-9a-f]{1,64})")


def event(name: str, value: object) -> bytes:
    """JSON is one line, whatever is in it."""
    return f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()


def had(query: str) -> dict[str, str]:
    """Section -> version, of a page that says what it has: ``verdict.0a1b-curves.2c3d``."""
    return dict(_HAVE.findall(query))


def changes(shown: Shown, have: dict[str, str]) -> Iterator[bytes]:
    """What is to be sent to one who has those versions."""
    for name, version in shown.versions.items():
        if have.get(name) != version:
            yield event("part", {"name": name, "version": version, "html": shown.parts[name]})


def state(title: str, over: bool, trouble: str = "") -> bytes:
    """``over``: nothing more will come. ``trouble``: why the page could not be made anew."""
    return event("state", {"title": harmless(title), "over": over, "trouble": harmless(trouble)})

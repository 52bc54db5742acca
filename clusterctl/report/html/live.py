"""Pages whose sections are replaced while somebody looks: the HTML is that of a page that is a file. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2s

import msgspec
from markupsafe import Markup

from clusterctl.report.html.index import list_parts
from clusterctl.report.html.pages import page
from clusterctl.report.html.record import RunRecord
from clusterctl.report.html.run import run_parts, tab
from clusterctl.report.run_view import RunRow


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A page as it is now: its sections in their order, and of each a version that tells it from others."""

    title: str
    parts: dict[str, Markup]
    versions: dict[str, str]
    over: bool = False
    """It does not change any more."""


def shown_run(record: RunRecord) -> Shown:
    return _shown(tab(record), run_parts(record))


def shown_list(rows: Sequence[RunRow], older: int) -> Shown:
    return _shown("runs", list_parts(rows, older))


def live_page(shown: Shown, *, below: bool) -> str:
    """The whole page, with the script that keeps it up to date. ``below``: it leads back to the list."""
    return page("live.html", shown=shown, below=below)


def problem_page(what: str, hint: str, *, link: str = "") -> str:
    """What cannot be shown, and why; ``link``: words that lead to the list."""
    return page("problem.html", what=what, hint=hint, link=link)


def _shown(title: str, parts: Mapping[str, Markup]) -> Shown:
    versions = {name: blake2s(part.encode(), digest_size=6).hexdigest() for name, part in parts.items()}
    return Shown(title=title, parts=dict(parts), versions=versions)

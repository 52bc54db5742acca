"""The living lines of waits: one line each, in the width there is, with words for all that is awaited."""

from __future__ import annotations

import io
from typing import get_args

import pytest
from rich.console import Console

from clusterctl.cli import comparing, progress, screen
from clusterctl.messages.examination import ExaminationAnswer

TAGS = [each.__struct_config__.tag for each in get_args(ExaminationAnswer)]


def one_line(monkeypatch: pytest.MonkeyPatch, kind: str, hosts: tuple[str, ...], width: int) -> str:
    """What `Asking` shows while ``hosts`` have not given this answer."""
    terminal = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(screen, "err", lambda: terminal)
    monkeypatch.setattr(progress, "_is_seen", lambda: True)
    asking = progress.Asking(hosts)
    asking.awaiting(kind, hosts)
    assert asking._progress is not None
    terminal.print(asking._progress.get_renderable(), end="")
    assert isinstance(terminal.file, io.StringIO)
    return terminal.file.getvalue().rstrip("\n")


@pytest.mark.parametrize("kind", TAGS)
def test_all_that_hosts_are_asked_has_words_that_fit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = one_line(monkeypatch, kind, ("gpu-server-01", "gpu-server-02"), 80)
    assert "\n" not in shown and len(shown) <= 80, shown
    assert progress._PHASES[kind] in shown and "0/2" in shown and "waiting for" in shown
    assert "\n" not in one_line(monkeypatch, kind, tuple("abc"), 50)


def test_a_line_that_stands_says_for_how_long_and_keeps_its_width() -> None:
    status = comparing.Status(seen=False)
    status.begin("1 of 4: ddp")
    status.awaiting("2 of 2 ranks up, importing")
    status.awaiting("")  # says nothing new
    begun = status._since
    assert status.line(79, begun + 0.5) == "1 of 4: ddp  2 of 2 ranks up, importing"
    assert status.line(79, begun + 18.7) == "1 of 4: ddp  2 of 2 ranks up, importing (19 s)"
    status.output("node1", "rank-0.log", "ü\t漢字 ".encode() * 40 + b"\n")
    assert status.line(40, status._since + 3).endswith(" (3 s)")
    assert Console().measure(status.line(40, status._since + 3)).maximum <= 40
    status.ending("waiting for node1 to end")
    assert "waiting for node1 to end" in status.line(79, status._since)

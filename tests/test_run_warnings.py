"""Warnings of watches as lines of the screen, and in `status`."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from clusterctl.advise.explain import HostWarning
from clusterctl.messages.events import Warned
from clusterctl.report import runs as page
from clusterctl.report.run_view import hosts_of, view
from clusterctl.run.actions import Say
from clusterctl.run.warnings import Warnings
from tests.test_run_machine import plan as small_plan


def warned(
    what: Any = "space", subject: str = "/tmp", text: str = "/tmp is full", over: bool = False
) -> Warned:
    return Warned(time=1.0, what=what, subject=subject, text=text, over=over)


def test_every_host_s_own_trouble_is_one_line() -> None:
    found = Warnings()
    assert found.heard("a", warned()) == [Say("a: /tmp is full")]
    assert found.heard("b", warned()) == [Say("b: /tmp is full")]


def test_what_hosts_share_is_told_of_the_first_and_again_when_it_comes_again() -> None:
    found = Warnings()
    shared = warned(subject="filer:/home", text="/home is full")
    over = warned(subject="filer:/home", text="/home has room again", over=True)
    assert [len(found.heard(host, shared)) for host in "abc"] == [1, 0, 0]
    assert [len(found.heard(host, over)) for host in "abc"] == [1, 0, 0]
    assert [len(found.heard(host, shared)) for host in "ab"] == [1, 0]


def test_what_cannot_be_watched_is_no_news_for_the_screen() -> None:
    assert Warnings().heard("a", warned(what="unseen")) == []


def test_status_shows_what_hosts_warn_of_folded() -> None:
    plan = small_plan(2)
    warnings = [HostWarning(host=host, warning=warned(what="unseen", text="no log")) for host in ("h0", "h1")]
    warnings.append(HostWarning(host="h1", warning=warned()))
    console = Console(file=io.StringIO(), width=80, no_color=True, highlight=False)
    run = view(plan, None, started=0.0, supervised=True)
    console.print(page.status(run, hosts_of(plan, []), None, now=1.0, warnings=warnings))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert "warn  h1: /tmp is full" in lines
    assert "      h[0-1]: no log" in lines

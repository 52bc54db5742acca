"""Help as a person reads it: 80 columns, usage as it is typed, an example for every verb."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clusterctl.cli import progress
from clusterctl.cli.console import HarmlessConsole
from clusterctl.cli.progress import Asking

VERBS = [
    *("doctor", "fit", "launch", "logs", "runs", "status", "stop", "pull", "clean", "env", "exec", "init"),
    *("sandbox up", "sandbox down", "sandbox status", "sandbox ssh", "sandbox exec"),
]


def help_of(*words: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "clusterctl", *words, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80"},
    ).stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_examples_and_a_usage_that_can_be_typed(verb: str) -> None:
    lines = help_of(*verb.split()).splitlines()
    assert lines[0].startswith(f"Usage: clusterctl {verb}")
    assert "[[" not in lines[0] and "{" not in lines[0]
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line != line.rstrip()]
    assert any(line.lstrip().startswith(("clusterctl", "eval")) for line in lines[lines.index("Examples:") :])
    assert not [line for line in lines if "<str>" in line or "<int>" in line or "list[str]" in line]


def test_the_list_of_verbs_is_whole() -> None:
    for words in ((), ("sandbox",)):
        text = help_of(*words)
        assert "..." not in text.partition("Commands:")[2]
        assert max(map(len, text.splitlines())) <= 80


def printed(console: Console, what: object) -> str:
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_is_printed_has_no_trailing_blanks_and_steers_nothing() -> None:
    table = Table(box=None)
    table.add_column("gpu")
    table.add_column("host [red]name[/]")
    table.add_row("A100 \x1b]0;owned\x07", Text("node1 \x1b[2J"))
    table.add_row("a long name", "[bold]n[/]")
    for colours in (None, "truecolor"):
        console = HarmlessConsole(
            file=io.StringIO(), width=80, markup=False, color_system=colours, force_terminal=bool(colours)
        )
        text = printed(console, table)
        assert "\\x1b]0;o" in text and "\\x1b[2J" in text and "[bold]n[/]" in text
        assert "\x1b]" not in text and "\x1b[2J" not in text
        assert not [line for line in text.splitlines() if line.endswith((" ", " \x1b[0m"))]


def test_the_bar_is_full_only_when_nothing_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_is_seen", lambda: True)
    asking = Asking(("node1", "node2"))
    assert asking._progress is not None
    task = asking._progress.tasks[0]
    seen = []

    def state() -> tuple[str, float, str]:
        return task.description, task.completed, task.fields["late"]

    asking.answered("node2", None)
    seen.append(state())
    asking.answered("node1", None)
    asking.awaiting("listening", ["node1", "node2"])
    seen.append(state())
    asking.awaiting("torch", ["node2"])
    seen.append(state())
    asking.awaiting("torch", [])
    seen.append(state())
    assert seen == [
        ("asking the hosts", 1, "waiting for node1"),
        ("opening ports for traffic", 0, "waiting for node[1-2]"),
        ("importing torch", 1, "waiting for node2"),
        ("importing torch", 2, ""),
    ]


def test_messages_speak_plain_english() -> None:
    """ "is no duration" is not how anybody says that a duration is invalid."""
    style = re.compile(r"(?:Error|complain|refuse|say|failed)\(.*\bis no \w")
    for path in (Path(__file__).parents[1] / "clusterctl").rglob("*.py"):
        found = [
            line for line in path.read_text().splitlines() if style.search(line) and "here is no" not in line
        ]
        assert not found, path

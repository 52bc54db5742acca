"""The end of a run on a desktop: what notify-send gets, and how little it can do to the run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from clusterctl.report.launch import plan_text
from clusterctl.run import notify
from clusterctl.store.outcome import Cause, Outcome
from clusterctl.store.runs import RunDirectory
from tests.test_run_machine import plan

CAUSE = Cause(kind="exception", message="ValueError: \x1b[31m<b>&\n$(touch never)", host="h1", rank=1)
FAILED = Outcome(run="r", status="failed", exit_code=7, cause=CAUSE)
RECORDS = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word" >> "$0.told"; done
"""


class Desktop:
    """A notify-send of ours, and a run that is over."""

    def __init__(self, folder: Path, program: str, wanted: tuple[Literal["bell", "desktop"], ...]) -> None:
        (folder / "bin").mkdir()
        self.program = folder / "bin/notify-send"
        self.program.write_text(program)
        self.program.chmod(0o700)
        self.plan = msgspec.structs.replace(plan(1), notify=wanted)
        self.directory = RunDirectory.create(self.plan)
        self.directory.write("outcome.json", FAILED)
        self.said: list[str] = []

    def carry_out(self, timeout: float = 60.0) -> list[str]:
        notify.carry_out(self.plan, self.directory, FAILED, self.said.append, timeout=timeout)
        return self.said

    @property
    def told(self) -> list[str]:
        path = self.program.with_name("notify-send.told")
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")


def test_it_is_told_once_and_by_words_that_nothing_carries_out(tmp_path: Path) -> None:
    desktop = Desktop(tmp_path, RECORDS, ("desktop",))
    assert desktop.carry_out() == []
    assert desktop.told[:3] == ["--app-name=clusterctl", "--urgency=critical", "--"]
    assert desktop.told[3] == f"run {desktop.plan.run}: failed"
    assert "ValueError: \\x1b[31m&lt;b&gt;&amp;" in desktop.told[4] and "$(touch never)" in desktop.told[4]
    assert len(desktop.told) == 5
    desktop.carry_out()
    assert len(desktop.told) == 5
    assert not list(tmp_path.rglob("never"))


def test_nobody_who_did_not_ask_is_told(tmp_path: Path) -> None:
    desktop = Desktop(tmp_path, RECORDS, ("bell",))
    assert desktop.carry_out() == desktop.told == []


def test_one_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    desktop = Desktop(tmp_path, '#!/bin/sh\nsleep 1000 & echo $! > "$0.told"\nwait\n', ("desktop",))
    (said,) = desktop.carry_out(timeout=2.0)
    assert "has been ended" in said
    for pid in desktop.told:
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or state.read_text().rpartition(") ")[2].startswith("Z")


def test_one_that_fails_is_said(tmp_path: Path) -> None:
    assert "exit code 3" in Desktop(tmp_path, "#!/bin/sh\nexit 3\n", ("desktop",)).carry_out()[0]


def test_without_a_desktop_that_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desktop = Desktop(tmp_path, RECORDS, ("desktop",))
    assert notify.missing() == ""
    assert "no desktop" in notify.missing({"XDG_RUNTIME_DIR": str(tmp_path)})
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no notify-send" in notify.missing(os.environ)
    assert desktop.carry_out() == desktop.told == []


def test_the_plan_says_it() -> None:
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as capture:
        console.print(plan_text(msgspec.structs.replace(plan(1), notify=("bell", "desktop"))))
    assert "notify" in capture.get() and "bell, desktop" in capture.get()

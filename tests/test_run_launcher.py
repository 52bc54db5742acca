"""DeepSpeed's launcher: when it begins and ends, and what it says of hosts that pdsh did not reach."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusterctl.run import launcher
from clusterctl.run.launcher import DeepSpeedLauncher, pdsh_failures
from tests.test_run_machine import plan

ROOT = Path(__file__).resolve().parent.parent

LOG = """[2026-01-01 10:00:00,000] [INFO] [runner.py:630:main] cmd = pdsh -S -f 1024 -w node1,node2 ...
node2: Permission denied (publickey).
node1: [2026-01-01 10:00:01,000] [INFO] [launch.py:162:main] nnodes=2, num_local_procs=1, node_rank=0
pdsh@laptop: node2: ssh exited with exit code 255
"""


def test_the_host_and_its_last_words_are_found() -> None:
    assert pdsh_failures(LOG) == {"node2": "Permission denied (publickey)."}


def test_a_host_that_said_nothing_is_found_too() -> None:
    assert pdsh_failures("pdsh@l: n1: ssh exited with exit code 255\n") == {
        "n1": "ssh exited with exit code 255"
    }


def test_a_rank_that_prints_such_a_line_is_not_pdsh() -> None:
    assert pdsh_failures("node1: pdsh@l: node2: ssh exited with exit code 1\n") == {}


def test_a_launcher_that_no_signal_ends_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits in the kernel for the disk of its log, which hangs."""

    class Stuck:
        pid = 1 << 30

        def __init__(self, *_: Any, **__: Any) -> None:
            return

        def wait(self, timeout: float | None = None) -> int:
            assert timeout is not None, "for ever"
            raise subprocess.TimeoutExpired("deepspeed", timeout)

    killed: list[int] = []
    monkeypatch.setattr(subprocess, "Popen", Stuck)
    monkeypatch.setattr("os.killpg", lambda pid, _: killed.append(pid))
    DeepSpeedLauncher(plan(1), tmp_path / "log", None).close()
    assert killed == [Stuck.pid]


def test_it_is_closed_and_leaves_nothing_where_no_descriptor_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended:
        def __init__(self, *_: Any, **__: Any) -> None:
            return

        def wait(self, _: float) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Ended)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    launcher = DeepSpeedLauncher(plan(1), tmp_path / "log", None)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        launcher.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert [each.name for each in tmp_path.iterdir()] == ["log"]


class DeepSpeed:
    """A deepspeed in a folder, in place of the real one, whose import takes seconds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.imported = folder / "imported"
        self.began = folder / "began"
        self.log = folder / "log"
        self._runner = folder / "deepspeed" / "launcher" / "runner.py"
        self._runner.parent.mkdir(parents=True)
        (folder / "deepspeed" / "__init__.py").touch()
        self.whose_import()
        first = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        monkeypatch.setattr(launcher, "_START", first + launcher._START)

    def whose_import(self, then: str = "") -> None:
        self._runner.write_text(f"""
import json, pathlib, sys
pathlib.Path({str(self.imported)!r}).write_text("")
{then}
def main():
    pathlib.Path({str(self.began)!r}).write_text(json.dumps([sys.executable, sys.argv[1:], sys.stdin.read()]))
""")

    def start(self) -> DeepSpeedLauncher:
        """Once its import has begun."""
        found = DeepSpeedLauncher(plan(1), self.log, None)
        until(self.imported.exists)
        return found

    def trouble(self, of: DeepSpeedLauncher) -> str:
        until(lambda: of._process.poll() is not None)
        of.look()
        return of.trouble


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def deepspeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeepSpeed:
    return DeepSpeed(tmp_path, monkeypatch)


def test_it_begins_when_it_is_told_to(deepspeed: DeepSpeed) -> None:
    found = deepspeed.start()
    found.begin()
    assert not deepspeed.trouble(found)
    executable, argv, stdin = json.loads(deepspeed.began.read_text())
    assert (executable, argv[0].partition("=")[0], stdin) == (plan(1).enter, "--hostfile", "")
    found.close()


@pytest.mark.parametrize("stopped", [False, True], ids=["", "stopped"])
def test_what_was_never_told_to_begin_is_ended_at_once(deepspeed: DeepSpeed, stopped: bool) -> None:
    found = deepspeed.start()
    if stopped:
        os.kill(found._process.pid, signal.SIGSTOP)
    found.close()
    assert found._process.poll() == -signal.SIGKILL
    assert not deepspeed.began.exists()


def test_it_ends_with_the_controller_also_amid_its_imports(deepspeed: DeepSpeed, tmp_path: Path) -> None:
    deepspeed.whose_import("import time; time.sleep(1000)")
    script = f"""
import sys, time
from pathlib import Path
from clusterctl.run import launcher
from tests.test_run_machine import plan
launcher._START = {launcher._START!r}
print(launcher.DeepSpeedLauncher(plan(1), Path({str(deepspeed.log)!r}), None)._process.pid, flush=True)
time.sleep(1000)
"""
    argv = [sys.executable, "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as controller:
        assert controller.stdout is not None
        pid = int(controller.stdout.readline())
        until(deepspeed.imported.exists)
        controller.kill()
    until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_an_import_that_fails_is_told_once_it_was_to_begin(deepspeed: DeepSpeed) -> None:
    deepspeed.whose_import("import nowhere")
    found = deepspeed.start()
    until(lambda: found._process.poll() is not None)
    found.begin()
    told = deepspeed.trouble(found)
    assert told == (
        "deepspeed's launcher ended with exit code 1: ModuleNotFoundError: No module named 'nowhere'"
    )
    found.close()


def test_one_that_was_killed_before_is_told_too(deepspeed: DeepSpeed) -> None:
    found = deepspeed.start()
    found._process.kill()
    until(lambda: found._process.poll() is not None)
    found.begin()
    assert deepspeed.trouble(found) == "deepspeed's launcher ended with exit code -9"
    found.close()


def test_no_other_word_makes_it_begin(deepspeed: DeepSpeed, monkeypatch: pytest.MonkeyPatch) -> None:
    found = deepspeed.start()
    monkeypatch.setattr(launcher, "_BEGIN", b"begun\n")
    found.begin()
    assert deepspeed.trouble(found)
    assert not deepspeed.began.exists()
    found.close()

"""Which processes of a run still live, where the kernel's own words for it are not the whole truth."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from clusterctl.node.shared import processes

# SYS_exit ends the calling thread only: 60 on x86, 93 on arm and others.
_MAIN_ENDS = """
import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
print("ready", flush=True)
ctypes.CDLL(None).syscall(60 if platform.machine() == "x86_64" else 93, 0)
"""


@pytest.fixture
def without_main_thread() -> Iterator[int]:
    environment = {"CLUSTERCTL_RUN": "r/0"}
    argv = [sys.executable, "-c", _MAIN_ENDS]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with open(f"/proc/{process.pid}/stat", "rb") as stat:  # noqa: PTH123 - read again and again
            while stat.read().rpartition(b")")[2].split()[0] != b"Z":
                stat.seek(0)
        yield process.pid
        process.kill()


def test_a_process_lives_as_long_as_any_of_its_threads(without_main_thread: int) -> None:
    pid = without_main_thread
    stat = processes.stat_of(pid)
    assert stat is not None
    assert processes.is_running(pid, stat.started)
    assert pid in processes.run_processes("r/0"), "its environment is gone with its main thread only"
    assert processes.command_of(pid).startswith("python")


def test_what_no_signal_ends_is_counted(without_main_thread: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "send", lambda *_: True)
    monkeypatch.setattr(processes, "waits_in_kernel", lambda _: True)
    monkeypatch.setattr(processes, "STUCK_TIMEOUT", 0.0)
    assert processes.kill_all("r/0") == [without_main_thread]


def test_what_only_waits_for_a_processor_is_waited_for(
    without_main_thread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    def late(pid: int, number: int) -> bool:
        sent.append(pid)
        if len(sent) == 4:
            os.kill(pid, number)
        return True

    monkeypatch.setattr(processes, "send", late)
    monkeypatch.setattr(processes, "STUCK_TIMEOUT", 0.0)
    assert processes.kill_all("r/0") == []
    assert sent[:4] == [without_main_thread] * 4


def test_what_has_lost_its_mark_on_its_way_out_still_counts(
    without_main_thread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = [[without_main_thread]]
    sent = []

    def late(pid: int, number: int) -> bool:
        sent.append(pid)
        if len(sent) == 3:
            os.kill(pid, number)
        return True

    monkeypatch.setattr(processes, "run_processes", lambda *_: seen.pop() if seen else [])
    monkeypatch.setattr(processes, "send", late)
    assert processes.kill_all("r/0") == []
    assert sent[:3] == [without_main_thread] * 3

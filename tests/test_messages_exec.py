"""`exec` between the controller's types and the node's real program, which runs here as a child."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.ask import exec as asking
from clusterctl.ask.bundle import pack
from clusterctl.ask.exec import run
from clusterctl.ask.host_session import MARK, HostSession, listen
from clusterctl.messages.exec import CommandEnded, ExecMessage, Output, exec_messages
from clusterctl.node import exec as node_exec
from clusterctl.node.shared import processes
from tests.local_channel import LocalChannel
from tests.recorded_hosts import RecordedHosts


def said_by(home: Path, argv: list[str], timeout: float = 60.0) -> list[ExecMessage]:
    channel = LocalChannel(home)
    session = HostSession(channel, exec_messages)
    try:
        channel.send(pack("exec", {"argv": argv, "timeout": timeout}, ("shared.processes",)))
        heard = [message for _, message in listen([session], time.monotonic() + 120) if message is not None]
    finally:
        channel.close()
    assert not session.fault
    return heard


def test_streams_and_the_end_of_a_real_command(tmp_path: Path) -> None:
    script = "import sys; sys.stdout.buffer.write(bytes([255, 0])); sys.exit(3)"
    heard = said_by(tmp_path, [sys.executable, "-c", script])
    assert heard == [Output(stream="out", data=b"\xff\0"), CommandEnded(code=3, timed_out=False, left=0)]


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    said, ended = said_by(tmp_path, ["no\udcffsuch"])
    assert isinstance(said, Output)
    assert said.stream == "err"
    assert b"No such file" in said.data
    assert ended == CommandEnded(code=127, timed_out=False, left=0)


def test_a_timeout_leaves_nothing_of_the_command(tmp_path: Path) -> None:
    heard = said_by(
        tmp_path, ["sh", "-c", "trap '' TERM; env -i setsid sleep 76543 & sleep 76543"], timeout=0.5
    )
    assert heard[-1] == CommandEnded(code=137, timed_out=True, left=0)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 76543" not in listed.splitlines()


def test_files_in_the_home_directory_shadow_nothing(tmp_path: Path) -> None:
    for name in ("queue", "json", "threading", "contextlib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user')\n")
    assert said_by(tmp_path, ["true"]) == [CommandEnded(code=0, timed_out=False, left=0)]


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_what_may_not_be_ended_is_counted(
    stubborn: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's processes refuse our signals; so does this one, whoever runs the test."""

    def refuse(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(node_exec, "GRACE", 0.1)
    monkeypatch.setattr(node_exec, "KILL_TIMEOUT", 0.1)
    monkeypatch.setattr(os, "killpg", refuse)
    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(processes, "run_processes", lambda tag, below: [stubborn.pid])
    assert node_exec.end_in_time(stubborn, "tag") == 1
    assert stubborn.poll() is None


def test_a_look_that_is_stuck_in_the_kernel_is_not_waited_for(
    stubborn: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GRACE", "KILL_TIMEOUT", "LOOK_TIMEOUT"):
        monkeypatch.setattr(node_exec, name, 0.05)
    monkeypatch.setattr(processes, "run_processes", lambda tag, below: time.sleep(1000))
    assert node_exec.end_in_time(stubborn, "tag") is None


GOOD = MARK + b'{"is": "command-ended", "code": 0, "timed_out": false, "left": 0}\n'


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"is": "command-ended", "code": 300, "timed_out": false}',
        b'{"is": "command-ended"}',
        b'{"is": "output", "stream": "both", "data": ""}',
        b'{"is": "output", "stream": "out", "data": "%%%"}',
        b'{"is": "output", "stream": "out"}',
        b'{"host": "b", "exit": 0}',
        b'{"is": "\\ud800"}',
        b"\xff\xfe",
        b"null",
        b"x" * (9 << 20),
    ],
)
def test_what_is_no_answer_costs_that_host_alone(line: bytes) -> None:
    found = run(RecordedHosts({"a": MARK + line + b"\n" + GOOD, "b": GOOD}), ["a", "b"], ["true"], timeout=60)
    assert [answer.exit_code for answer in found] == [asking.UNREACHABLE, 0]
    assert found[0].failure is not None
    assert (found[0].failure.host, found[0].failure.stage) == ("a", "decode")


def test_a_timeout_says_what_is_left() -> None:
    late = MARK + b'{"is": "command-ended", "code": 137, "timed_out": true, "left": 2}\n'
    unknown = late.replace(b"2}", b"null}")
    answers = run(RecordedHosts({"a": late, "b": unknown}), ["a", "b"], ["true"], timeout=60)
    assert [(each.exit_code, each.left) for each in answers] == [
        (asking.TIMED_OUT, 2),
        (asking.TIMED_OUT, None),
    ]

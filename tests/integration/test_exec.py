"""`clusterctl exec` on real hosts: folding, exit codes, and that nothing stays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from clusterctl.cli import exec as verb
from clusterctl.errors import UsageError
from clusterctl.sandbox import HostSpec, Sandbox

pytestmark = pytest.mark.sandbox
Captured = pytest.CaptureFixture[str]


def test_equal_answers_are_shown_once(sandbox: Sandbox, capsys: Captured) -> None:
    assert verb.command(["echo", "same"], hostfile=str(sandbox.hostfile)) == 0
    shown = capsys.readouterr()
    assert shown.out.count("same") == 1
    assert "node[1-4]" in shown.out
    assert "4 hosts" in shown.err


def test_different_answers_stand_under_their_hosts(sandbox: Sandbox, capsys: Captured) -> None:
    script = "[ $(hostname) = node3 ] && { echo odd; exit 3; }; echo even"
    assert verb.command([script], as_script=True, hostfile=str(sandbox.hostfile)) == 3
    out = capsys.readouterr().out
    assert "node[1-2,4]" in out
    assert out.index("even") < out.index("node3") < out.index("odd")
    assert "exit 3" in out


def test_no_shell_reads_the_words(sandbox: Sandbox, capsys: Captured) -> None:
    words = ["$HOME", "a  b", "it's", '"', "*", "%h", "ä", "x\ny", ";", ""]
    program = "import sys, json; print(json.dumps(sys.argv[1:]))"
    command = ["/usr/bin/python3", "-c", program, *words]
    assert verb.command(command, include="node1", hostfile=str(sandbox.hostfile)) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[1]) == words


def test_json_has_every_host_and_stream(sandbox: Sandbox, capsys: Captured) -> None:
    code = verb.command(
        ["echo out; echo err >&2; kill -KILL $$"],
        as_script=True,
        nodes=2,
        as_json=True,
        hostfile=str(sandbox.hostfile),
    )
    assert code == 137
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "clusterctl.exec/1"
    assert list(found["hosts"]) == ["node1", "node2"]
    assert {(host["stdout"], host["stderr"], host["exit_code"]) for host in found["hosts"].values()} == {
        ("out\n", "err\n", 137)
    }


def test_lines_come_behind_their_host(sandbox: Sandbox, capsys: Captured) -> None:
    assert verb.command(["printf", r"a\nb"], fold=False, nodes=2, hostfile=str(sandbox.hostfile)) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == ["node1 a", "node1 b", "node2 a", "node2 b"]


def test_a_host_that_cannot_be_asked_does_not_hide_the_others(
    sandbox: Sandbox, tmp_path: Path, capsys: Captured
) -> None:
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("node1 slots=1\nnosuch.invalid slots=1\n")
    code = verb.command(["echo", "here"], hostfile=str(hostfile), ssh_config=str(sandbox.ssh_config))
    assert code == 255
    shown = capsys.readouterr()
    assert "here" in shown.out
    assert "error: nosuch.invalid: " in shown.err
    assert "hint: " in shown.err


def test_a_command_that_is_not_there(sandbox: Sandbox, capsys: Captured) -> None:
    assert verb.command(["nosuchcommand"], nodes=1, hostfile=str(sandbox.hostfile)) == 127
    assert "nosuchcommand: No such file" in capsys.readouterr().out


def test_a_timeout_ends_everything_the_command_started(sandbox: Sandbox, capsys: Captured) -> None:
    script = "trap '' TERM; (setsid sleep 77001 &); env -i setsid sleep 77002 & sleep 77003"
    code = verb.command([script], as_script=True, nodes=2, timeout="2s", hostfile=str(sandbox.hostfile))
    assert code == 124
    assert "ended after 2 s" in capsys.readouterr().err
    for name in ("node1", "node2"):
        assert running(sandbox, name, "sleep 7700[123]") == ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_stays_when_the_controller_goes(sandbox: Sandbox, number: signal.Signals) -> None:
    words = "['sh', '-c', 'trap \"\" TERM; sleep 88001 & sleep 88001']"
    program = (
        f"from clusterctl.cli import exec; exec.command({words}, nodes=2, hostfile={str(sandbox.hostfile)!r})"
    )
    controller = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    try:
        for name in ("node1", "node2"):
            wait_for(partial(runs, sandbox, name, "sleep 8800[1]", True))
    finally:
        controller.send_signal(number)
        controller.wait(120)
    for name in ("node1", "node2"):
        wait_for(partial(runs, sandbox, name, "sleep 8800[1]", False))


def test_what_a_finished_command_leaves_does_not_hold_it_up(sandbox: Sandbox, capsys: Captured) -> None:
    script = "sleep 78004 & echo started"
    assert verb.command([script], as_script=True, nodes=1, hostfile=str(sandbox.hostfile)) == 0
    assert "started" in capsys.readouterr().out


def test_a_host_without_python_is_named(make_sandbox: Callable[..., Sandbox], capsys: Captured) -> None:
    box = make_sandbox([HostSpec("bare")])
    box.host("bare").shell_profile("PATH=/nowhere\n")
    for path in map(Path, ("/usr/bin/python3", "/usr/local/bin/python3", "/opt/conda/bin/python3")):
        if path.exists():
            box.host("bare").install(str(path.resolve()), "#!/bin/sh\nexit 85\n", 0o755)
    assert verb.command(["true"], hostfile=str(box.hostfile)) == 255
    assert "no Python 3.8" in capsys.readouterr().err


def test_wrong_usage(sandbox: Sandbox) -> None:
    with pytest.raises(UsageError, match="no command"):
        verb.command([], hostfile=str(sandbox.hostfile))
    with pytest.raises(UsageError, match="invalid duration"):
        verb.command(["true"], timeout="soon", hostfile=str(sandbox.hostfile))


def running(sandbox: Sandbox, host: str, pattern: str) -> str:
    return sandbox.host(host).run(["pgrep", "-f", pattern]).stdout


def runs(sandbox: Sandbox, host: str, pattern: str, wanted: bool) -> bool:
    return (running(sandbox, host, pattern) != "") is wanted


def wait_for(true: Callable[[], bool], limit: float = 120.0) -> None:
    deadline = time.monotonic() + limit
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)

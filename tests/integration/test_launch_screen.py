"""What a run shows, and that showing it holds nothing up: real hosts, real pipes, real terminals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.sandbox import Sandbox
from tests.integration.launching import PATIENCE, Launch, leftovers, start
from tests.integration.standin import without_torch

pytestmark = pytest.mark.sandbox

FLOOD = """
import os, signal, sys, time
written = 0
while True:
    sys.stdout.write(("x" * 99 + "\\n") * 200)
    sys.stdout.flush()
    written += 20_000
    if sys.argv[1] == "kill" and os.environ["RANK"] == "3" and written > 1 << 20:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
"""


@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_a_pipe_that_nobody_reads_delays_no_end(sandbox: Sandbox, tmp_path: Path, how: str) -> None:
    (tmp_path / "flood.py").write_text(FLOOD)
    options = ["-H", str(sandbox.hostfile), "--include", "node1@node2", *without_torch(sandbox)]
    home = Path(os.environ["CLUSTERCTL_HOME"])
    (home / "runs").mkdir(exist_ok=True)
    seen = set((home / "runs").iterdir())
    unread, stdout = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "clusterctl", "launch", *options, "flood.py", how],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(stdout)
    started = Launch(process, home, seen)
    if how == "interrupt":
        started.wait_for_ranks(4)
        log = started.run / "logs/node1/rank-0.log"
        started.wait_for(lambda _: log.exists() and log.stat().st_size > 1 << 20)
        started.signal(signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == (123 if how == "interrupt" else 137)
    assert "nobody reads it" in told and f"exit  {process.returncode}" in told
    assert started.outcome["incomplete_logs"] == []
    assert not leftovers(sandbox, started.run.name)
    os.close(unread)


BAR = """
import sys, time
print("\\x1b]0;owned\\x07\\x1b[2Jready", flush=True)
while True:
    sys.stderr.write("\\r 42%|####      | epoch 1")
    sys.stderr.flush()
    time.sleep(0.1)
"""


def test_a_progress_bar_is_seen_while_it_runs_and_no_title_is_set(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "bar.py").write_text(BAR)
    options = ["--include", "node1:0", *without_torch(sandbox)]
    started = start(sandbox, "bar.py", cwd=tmp_path, options=options)
    assert started.process.stdout is not None
    lines = []
    for line in started.process.stdout:
        lines.append(line)
        if "42%" in line:
            started.signal()
            break
    lines += started.finish().text.splitlines(keepends=True)
    assert started.code == 123
    assert any(line.endswith("│ ready\n") for line in lines)
    assert any(line.endswith("│  42%|####      | epoch 1\n") for line in lines)
    assert "\x1b" not in "".join(lines)

"""`clusterctl sweep` on real hosts: what dead runs left goes, what lives or is no run's stays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.sandbox import HostSpec
from clusterctl.sandbox.host import VirtualHost
from tests.conftest import MakeSandbox
from tests.integration.launching import PATIENCE, Launch, leftovers, start
from tests.integration.standin import without_torch

pytestmark = pytest.mark.sandbox
# Each rank leaves a daemon in a session of its own, which ignores all it may.
SCRIPT = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
    open("daemon-%s" % os.environ["RANK"], "w").write(str(os.getpid()))
    time.sleep(600)
os.wait()
while not os.path.exists("daemon-" + os.environ["RANK"]): time.sleep(0.01)
print("ready", flush=True)
time.sleep(600)
"""
# Kills whatever a run has but its daemons: agent, relay, engine, waiters and ranks. All are stopped first,
# also what one of them started meanwhile, so that none sees another die; it returns when they are gone.
KILL = """
import os, sys, signal, glob, time
keep = {int(open(path).read()) for path in glob.glob(sys.argv[2] + "/*/work/daemon-*")} | {os.getpid()}
assert len(keep) > 1
def marked():
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            words = open(f"/proc/{pid}/cmdline").read() + open(f"/proc/{pid}/environ").read()
        except OSError:
            continue
        if sys.argv[1] in words and pid not in keep: yield pid
def send(number, pids):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it ended by itself
stopped = set()
while found := set(marked()) - stopped:
    send(signal.SIGSTOP, found)
    stopped |= found
send(signal.SIGKILL, stopped)
while found := set(marked()):
    send(signal.SIGKILL, found)
    time.sleep(0.05)
"""


def sweep(*words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "clusterctl", "sweep", *words],
        capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def orphan(found: Launch, *hosts: VirtualHost) -> None:
    """The run's controller dies, and with it whatever would end the run's processes."""
    found.signal(signal.SIGKILL)
    found.finish()
    for host in hosts:
        folder = f".clusterctl/node/{found.run.name}"
        killed = host.run([sys.executable, "-S", "-c", KILL, found.run.name, str(host.home / folder)])
        assert killed.returncode == 0, killed.stderr


def test_what_dead_runs_left_goes_and_all_else_stays(make_sandbox: MakeSandbox, tmp_path: Path) -> None:
    box = make_sandbox([HostSpec("one", slots=2), HostSpec("two", slots=2)])
    one, two = box.host("one"), box.host("two")
    (tmp_path / "daemons.py").write_text(SCRIPT)
    hosts = ("-H", str(box.hostfile))
    standin = without_torch(box)
    alive = start(box, "daemons.py", cwd=tmp_path, options=["-i", "one:1@two:1", *standin])
    dead = None
    try:
        alive.wait_for_logs("ready", 2)
        going_on = alive.run
        dead = start(box, "daemons.py", cwd=tmp_path, options=["-i", "one:0@two:0", *standin])
        dead.wait_for_logs("ready", 2)
        gone = dead.run.name
        one.run(["sh", "-c", "nohup sleep 4321 >/dev/null 2>&1 &"])

        code, said = sweep(*hosts, "--yes")
        assert code == 0, said
        assert "one,two: nothing is left" in said
        assert f"let alone: run {gone}" in said
        assert f"let alone: run {going_on.name}" in said

        orphan(dead, one, two)
        assert len(left := leftovers(box, gone)) == 2, left
        before = leftovers(box, going_on.name)
        code, said = sweep(*hosts, "--dry-run")
        assert code == 0, said
        assert said.count("daemons.py") == 2
        assert f"of run {gone}" in said
        assert "job.json" in said
        assert f"let alone: run {going_on.name}" in said
        assert len(leftovers(box, gone)) == 2, "it only said so"

        two.stop_sshd()
        code, said = sweep(*hosts, "--yes")
        assert code == 1, said
        assert "two: " in said
        assert "0 processes left on 1 of 1 host" in said
        assert [line.split(":")[0] for line in leftovers(box, gone)] == ["two"]
        two.start_sshd()
        code, said = sweep(*hosts, "--yes")
        assert code == 0, said
        assert leftovers(box, gone) == []
        assert not [*one.home.glob(f".clusterctl/node/{gone}/*/job.json")]
        assert [*one.home.glob(f".clusterctl/node/{gone}/*/logs/rank-*.log")], "logs are still to be fetched"

        assert leftovers(box, going_on.name) == before
        assert "sleep 4321" in str(one.run(["sh", "-c", "ps -eo args | grep '[s]leep 4321'"]).stdout)
        assert alive.process.poll() is None
    finally:
        alive.signal(signal.SIGINT)
        alive.signal(signal.SIGINT)
        alive.finish()
    assert alive.code == 123, alive.text
    assert json.loads((going_on / "outcome.json").read_text())["left_behind"] == {"one": 0, "two": 0}

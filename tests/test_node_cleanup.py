"""What an agent takes away with the processes it ends: shared memory, locks, GPU memory; and what not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.messages import events
from clusterctl.node.run import traces
from clusterctl.node.shared import gpu_holders, processes
from tests.node_run import Make, NodeRun, node_runs, wait_until

NOBODY = 2**22 - 7
# It holds shared memory and the lock of a compilation, as torch does, and is killed in the middle of that.
HOLDS = """
import mmap, os, time
shm = os.open("/dev/shm/torch_%d_clusterctl-test" % os.getpid(), os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(shm, 4096)
memory = mmap.mmap(shm, 4096)
os.close(shm)
folder = os.environ["TORCH_EXTENSIONS_DIR"] + "/fused_adam"
os.makedirs(folder)
lock = os.open(folder + "/lock", os.O_CREAT | os.O_EXCL)
print(os.getpid(), "ready", flush=True)
time.sleep(600)
"""
# Children of data loaders whose own parent is gone, one without its environment, in sessions of their own.
ORPHANS = """
import os, signal, subprocess, sys, time
child = "import os, signal, time; os.setsid(); signal.signal(15, signal.SIG_IGN)"
child += "; print(os.getpid(), 'ready', flush=True); time.sleep(600)"
for env in ({}, dict(os.environ)):
    if os.fork() == 0:
        subprocess.Popen([sys.executable, "-S", "-c", child], env=env)
        time.sleep(0.2)
        os._exit(0)
time.sleep(600)
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_runs(tmp_path) as make:
        yield make


def notes(run: NodeRun) -> list[str]:
    return [each.text for each in run.told(events.Noted)]


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_shared_memory_and_locks_go_with_their_process(make: Make, tmp_path: Path, how: str) -> None:
    extensions = tmp_path / "extensions"
    env = {"FOLDER": str(tmp_path), "TORCH_EXTENSIONS_DIR": str(extensions)}
    run = make(HOLDS, env=env).start()
    run.wait_for_log("ready")
    shm = Path(f"/dev/shm/torch_{run.log().split()[0]}_clusterctl-test")
    old = extensions / "older/lock"
    old.parent.mkdir()
    old.touch()
    os.utime(old, (1.0, 1.0))
    others = Path(f"/dev/shm/torch_{os.getpid()}_clusterctl-other")
    others.write_text("of another job")
    with (extensions / "held").open("w"):
        try:
            assert shm.exists()
            if how == "killed":
                os.kill(int(run.log().split()[0]), signal.SIGKILL)
            else:
                run.stop(0.0)
            assert run.wait_end().left == 0
            assert not (extensions / "fused_adam/lock").exists(), "the next run would wait for it"
            assert old.exists(), "who left it is not known"
            assert others.exists()
            if how == "stopped":  # of what dies by itself nobody has seen what it had open
                assert not shm.exists()
        finally:
            others.unlink()
            shm.unlink(missing_ok=True)


def test_a_lock_that_somebody_holds_stays(tmp_path: Path) -> None:
    found = traces.Traces("r/0", {"TORCH_EXTENSIONS_DIR": str(tmp_path)})
    held, left = tmp_path / "a/lock", tmp_path / "py311/b/lock"
    for each in (held, left):
        each.parent.mkdir(parents=True)
        each.touch()
    with held.open():
        assert found.remove() == [str(left)]
    assert held.exists()


def test_on_a_network_file_system_locks_are_let_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "type_of", lambda path: "nfs4")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/lock").touch()
    assert traces.Traces("r/0", {"TORCH_EXTENSIONS_DIR": str(tmp_path)}).remove() == []


def test_the_type_of_a_file_system_is_that_of_its_mount() -> None:
    assert traces.type_of("/proc/self") == "proc"
    assert traces.type_of("/dev/shm/x/y") == "tmpfs"


def test_orphans_in_other_sessions_are_ended_with_and_without_an_environment(make: Make) -> None:
    bystander = subprocess.Popen(["sleep", "600"], env={"CLUSTERCTL_RUN": "another/0"})
    run = make(ORPHANS).start()
    try:
        wait_until(lambda: run.log().count("ready") == 2)
        pids = [int(line.split()[0]) for line in run.log().splitlines()]
        started = {pid: stat.started for pid, stat in processes.process_table().items() if pid in pids}
        assert len(started) == 2
        run.stop(0.0)
        assert run.wait_end().left == 0
        assert not [pid for pid, start in started.items() if processes.is_running(pid, start)]
        assert bystander.poll() is None, "another run's"
    finally:
        bystander.kill()
        bystander.wait()


SMI = """#!{python}
import os, sys
assert sys.argv[1:] == ["--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"], sys.argv
count = {folder!r} + "/asked"
with open(count, "a") as stream: stream.write("x")
print("{other}, 2048")
if os.path.getsize(count) <= {times}:
    print(open({folder!r} + "/pid").read().strip() + ", 512")
    print(open({folder!r} + "/pid").read().strip() + ", 1024")
"""


def fake_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """An nvidia-smi that lists the rank for so many times after its end."""
    (folder / "bin").mkdir()
    tool = folder / "bin/nvidia-smi"
    text = SMI.format(python=f"{sys.executable} -IS", folder=str(folder), times=times, other=NOBODY)
    tool.write_text(text)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")


@pytest.mark.parametrize("times", [2, 10**6], ids=["soon", "never"])
def test_gpu_memory_is_waited_for_and_who_keeps_it_is_named(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    fake_smi(tmp_path, monkeypatch, times)
    script = "import os, time; open(os.environ['FOLDER'] + '/pid', 'w').write(str(os.getpid()))\n"
    script += "print('ready', flush=True); time.sleep(600)"
    run = make(script).start()
    run.wait_for_log("ready")
    pid = (tmp_path / "pid").read_text()
    run.stop(0.0)
    run.wait_end()
    asked = (tmp_path / "asked").stat().st_size
    if times == 2:
        assert asked == 3
        assert notes(run) == []
    else:
        said = f"1536 MiB of GPU memory still held by process {pid}, 3 s after its end (rank 0)"
        assert notes(run) == [said]


def test_an_nvidia_smi_that_does_not_answer_delays_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexec sleep 600\n")
    tool.chmod(0o755)
    assert gpu_holders.still_held({NOBODY}, 0.3, str(tmp_path)) == {}
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpu_holders.still_held({NOBODY}, 0.3, str(tmp_path)) == {}

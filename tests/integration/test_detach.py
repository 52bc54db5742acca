"""Runs that need no terminal: on real sshd hosts, with terminals that are closed and controllers that die."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from clusterctl import Cluster, DetachedRun, LaunchOptions
from clusterctl.sandbox import Sandbox
from tests import chaos
from tests.integration.launching import PATIENCE, Launch, leftovers, start

pytestmark = pytest.mark.sandbox

CLUSTERCTL = [sys.executable, "-m", "clusterctl"]
TICKS = """
import os, sys, time
print("ready", flush=True)
rank, folder, code = os.environ["RANK"], sys.argv[1], int(sys.argv[2])
number = 0
while not os.path.exists(os.path.join(folder, "go")):
    print("rank", rank, "tick", number, flush=True)
    number += 1
    time.sleep(0.1)
print("rank", rank, "ends after", number, flush=True)
sys.exit(code if rank == "1" else 0)
"""
HELD = """
import os, time
while os.path.exists({hold!r}): time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def profile(sandbox: Sandbox) -> Path:
    """Of hosts whose torchrun only forks the ranks, unless the file ``hold`` is there: what is tried here is
    not torch."""
    folder = sandbox.hostfile.parent / "standin"  # which hosts see
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "python"], check=True)
    (site,) = (folder / "python").glob("lib/python*/site-packages")
    shutil.copytree(Path(chaos.__file__).parent / "standin/torch", site / "torch")
    program = site / "torch/distributed/run.py"
    program.write_text(HELD.format(hold=str(folder / "hold")) + program.read_text())
    (folder / "profile.yaml").write_text(f"python: {folder}/python/bin/python\n")
    return folder / "profile.yaml"


class Detached:
    """A detached run on two hosts, whose ranks tick until `go`; rank 1 ends with 7 then."""

    def __init__(self, box: Sandbox, profile: Path, folder: Path) -> None:
        self.box = box
        self.folder = folder
        self.options = ["--force", "--profile", str(profile), "-n", "2", "--gpus-per-node", "1"]
        self.words = ["ticks.py", str(folder), "7"]
        (folder / "ticks.py").write_text(TICKS)
        self.found: Launch | None = None

    @property
    def argv(self) -> list[str]:
        launch = ["launch", "--detach", "-H", str(self.box.hostfile)]
        return [*CLUSTERCTL, *launch, *self.options, *self.words]

    def launch(self, *options: str) -> str:
        self.found = start(
            self.box, *self.words, cwd=self.folder, options=["--detach", *self.options, *options]
        ).finish()
        assert self.found.code == 0, self.found.text
        return self.found.text

    @property
    def run(self) -> Path:
        assert self.found is not None
        return self.found.run

    def controller_pid(self) -> int:
        claim = json.loads((self.run / "supervisor.json").read_text())
        return int(claim["pid"])

    def controller(self) -> psutil.Process:
        return psutil.Process(self.controller_pid())

    def go(self) -> None:
        (self.folder / "go").touch()

    def begin(self, verb: str, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*CLUSTERCTL, verb, self.run.name, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def outcome(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while not (self.run / "outcome.json").exists():
            assert time.monotonic() < until
            time.sleep(0.1)
        found: dict[str, Any] = json.loads((self.run / "outcome.json").read_text())
        return found

    def must_have_ended_well(self) -> None:
        """With the cause that it has, every byte of its logs, and nothing left."""
        outcome = self.outcome()
        assert (outcome["status"], outcome["exit_code"]) == ("failed", 7), outcome
        assert (outcome["cause"]["host"], outcome["cause"]["rank"]) == ("node2", 1)
        assert outcome["incomplete_logs"] == []
        assert outcome["left_behind"] == {"node1": 0, "node2": 0}
        for host, rank in (("node1", 0), ("node2", 1)):
            lines = (self.run / "logs" / host / f"rank-{rank}.log").read_text().splitlines()
            ticks = [f"rank {rank} tick {number}" for number in range(len(lines) - 2)]
            ends = f"rank {rank} ends after {len(ticks)}"
            assert lines in (["ready", *ticks, ends], ["ready", *ticks, lines[-1]]), lines
        assert leftovers(self.box, self.run.name) == []


@pytest.fixture
def detached(sandbox: Sandbox, profile: Path, tmp_path: Path) -> Iterator[Detached]:
    project = profile.parent / tmp_path.name
    project.mkdir()
    found = Detached(sandbox, profile, project)
    yield found
    found.go()
    if found.found is not None:
        found.begin("stop", "--now").communicate()


def text_of(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=PATIENCE)
    return text


def test_it_returns_when_all_ranks_are_up_and_the_run_goes_on(detached: Detached) -> None:
    text = detached.launch("--env", "MY_TOKEN=hush", "--on-end", 'echo "$CLUSTERCTL_CAUSE" >told; exit 3')
    run = detached.run.name
    assert f"up: run {run} goes on without this terminal" in text
    for line in (f"clusterctl attach {run} ", f"clusterctl logs -f {run} ", f"clusterctl stop {run} "):
        assert line in text
    assert "hosts go on for 24 h without a controller" in text
    starts = [e for e in detached.found.events() if e["event"] == "rank-start"]  # type: ignore[union-attr]
    assert len(starts) == 2
    controller = detached.controller()
    assert (os.getsid(controller.pid), controller.terminal()) == (controller.pid, None)
    assert "hush" not in " ".join(controller.cmdline())
    for path in detached.run.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
        assert path.is_dir() or b"hush" not in path.read_bytes(), path
    looking = [detached.begin("attach", "--tail", "1"), detached.begin("logs", "-f")]
    detached.go()
    watched, logs = map(text_of, looking)
    assert looking[0].returncode == 7
    assert "failed after" in watched and "0 processes left on 2 of 2 hosts" in watched
    assert "node2 1    │ rank 1 ends after" in watched and "rank 1 ends after" in logs
    detached.must_have_ended_well()
    gone = psutil.wait_procs([controller], timeout=PATIENCE)[1] == []
    assert gone, "it ends with the run"
    assert (detached.folder / "told").read_text() == "node2: ended with exit code 7\n"
    assert (detached.run / "controller.log").read_text().startswith("--on-end ended with exit code 3, which")
    again = detached.begin("attach")
    assert "node1 0    │ ready\n" in text_of(again)
    assert again.returncode == 7


@pytest.mark.long
@pytest.mark.parametrize("moment", ["while it starts", "when it is up"])
def test_a_terminal_that_is_closed_ends_nothing(detached: Detached, moment: str) -> None:
    home = Path(os.environ["CLUSTERCTL_HOME"])
    (home / "runs").mkdir(exist_ok=True)
    before = set((home / "runs").iterdir())
    shell, terminal = pty.fork()
    if shell == 0:  # the foreground of a terminal of its own, as after `ssh controller`
        os.chdir(detached.folder)
        os.execv(
            "/bin/sh", ["/bin/sh", "-c", f'"$@"; echo "went $?"; sleep {PATIENCE}', "sh", *detached.argv]
        )
    wanted = b"ranks " if moment == "while it starts" else b"went 0"
    seen = b""
    while wanted not in seen:
        seen += os.read(terminal, 4096)
    os.close(terminal)
    os.waitpid(shell, 0)
    detached.found = Launch(None, home, before)  # type: ignore[arg-type]
    until = time.monotonic() + PATIENCE
    while len(list(detached.run.glob("logs/*/rank-*.log"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    watching = detached.begin("attach")
    detached.go()
    text = text_of(watching)
    assert watching.returncode == 7, text
    assert "SIGHUP" not in text
    detached.must_have_ended_well()


def test_one_of_two_takes_over_from_a_controller_that_was_killed(detached: Detached) -> None:
    detached.launch()
    first = detached.controller()
    first.kill()
    psutil.wait_procs([first], timeout=PATIENCE)
    status = text_of(detached.begin("status"))
    assert "no controller since" in status and "its controller is dead" in status
    assert f"clusterctl attach {detached.run.name}" in status
    alone = detached.begin("attach", "--watch-only")
    assert f"nobody supervises run {detached.run.name} any more" in text_of(alone)
    assert alone.returncode == 125
    looking = [detached.begin("attach"), detached.begin("attach")]
    until = time.monotonic() + PATIENCE
    while detached.controller_pid() == first.pid:
        assert time.monotonic() < until
        time.sleep(0.1)
    looking[0].send_signal(signal.SIGINT)
    left = text_of(looking[0])
    if looking[0].returncode != 130:  # it was still loading its modules
        assert looking[0].returncode in (130, -signal.SIGINT), left
    assert not detached.run.joinpath("outcome.json").exists()
    detached.go()
    text = text_of(looking[1])
    assert looking[1].returncode == 7, text
    detached.must_have_ended_well()
    controllers = [p for p in psutil.process_iter() if detached.run.name in _words(p)]
    assert controllers == []


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@pytest.mark.long
def test_a_controller_that_stands_still_is_woken(detached: Detached) -> None:
    detached.launch()
    detached.controller().suspend()
    assert "stands still" in text_of(detached.begin("status"))
    watching = detached.begin("attach")
    detached.go()
    text = text_of(watching)
    assert watching.returncode == 7, text
    assert "was suspended and has been woken" in text
    detached.must_have_ended_well()


@pytest.mark.long
@pytest.mark.parametrize("alive", [True, False], ids=["supervised", "controller killed"])
def test_stop_waits_for_the_end_and_tells_it(detached: Detached, alive: bool) -> None:
    detached.launch()
    if not alive:
        controller = detached.controller()
        controller.kill()
        psutil.wait_procs([controller], timeout=PATIENCE)
    stopping = detached.begin("stop")
    text = text_of(stopping)
    assert stopping.returncode == 0, text
    assert "by the operator (clusterctl stop)" in " ".join(text.split())
    assert "0 processes left on 2 of 2 hosts" in text
    assert leftovers(detached.box, detached.run.name) == []


@pytest.mark.long
def test_sigterm_leaves_the_hosts_alone_and_attach_goes_on(detached: Detached) -> None:
    detached.launch()
    controller = detached.controller()
    controller.terminate()
    psutil.wait_procs([controller], timeout=PATIENCE)
    assert "goes on without its controller" in (detached.run / "controller.log").read_text()
    assert len(leftovers(detached.box, detached.run.name)) >= 2
    watching = detached.begin("attach")
    detached.go()
    assert text_of(watching) and watching.returncode == 7
    detached.must_have_ended_well()


@pytest.mark.long
def test_ctrl_c_before_it_is_up_ends_the_run(detached: Detached, profile: Path) -> None:
    hold = profile.parent / "hold"
    hold.touch()
    try:
        found = detached.found = start(
            detached.box, *detached.words, cwd=detached.folder, options=["--detach", *detached.options]
        )
        found.wait_for(lambda events: sum(event["event"] == "engine" for event in events) == 2)
        found.signal()
        found.finish()
    finally:
        hold.unlink()
    assert found.code == 123, found.text
    assert "stopped by the operator (Ctrl-C)" in found.text
    assert found.outcome["left_behind"] == {"node1": 0, "node2": 0}
    assert leftovers(detached.box, found.run.name) == []


@pytest.mark.long
def test_python_may_leave_a_run_to_itself_and_find_it_again(
    detached: Detached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(detached.folder)
    cluster = Cluster.from_hostfile(
        detached.box.hostfile, nodes=2, gpus_per_node=1, profile=detached.options[2]
    )
    run = cluster.launch(*_script(detached.words), options=LaunchOptions(force=True), detach=True)
    assert run.outcome is None and run.plan.on_disconnect == "continue" and "running" in repr(run)
    with pytest.raises(TimeoutError, match=f"run {run.id} goes on"):
        run.wait(timeout=0.1)
    again = DetachedRun.find(run.id)
    detached.go()
    assert again.wait(PATIENCE).exit_code == 7
    assert "rank 1 ends after" in run.logs(1)
    assert {event["event"] for event in run} >= {"rank-start", "rank-exit", "end"}
    assert run.stop() == run.outcome == again.outcome


def _script(words: list[str]) -> tuple[str, list[str]]:
    return words[0], words[1:]


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> Iterator[Path]:
    """A disk of 256 kB for the runs of this machine."""
    disk = tmp_path / "small"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "small", disk], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    monkeypatch.setenv("CLUSTERCTL_SSH_CONFIG", str(sandbox.ssh_config))
    monkeypatch.setenv("CLUSTERCTL_HOME", str(disk))
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.long
def test_a_full_disk_here_delays_the_outcome_until_it_has_room(small_disk: Path, detached: Detached) -> None:
    detached.launch("--on-end", f"echo $CLUSTERCTL_STATUS >{detached.folder}/told")
    controller = detached.controller()
    with (small_disk / "fill").open("wb", buffering=0) as fill:
        while True:
            try:
                fill.write(b"x" * 4096)
            except OSError:
                break
    detached.go()
    until = time.monotonic() + PATIENCE
    while not (detached.folder / "told").exists():
        assert time.monotonic() < until
        time.sleep(0.1)
    assert controller.is_running() and not (detached.run / "outcome.json").exists()
    assert (detached.folder / "told").read_text() == "failed\n"
    (small_disk / "fill").unlink()
    outcome = detached.outcome()
    assert (outcome["status"], outcome["exit_code"]) == ("failed", 7)
    assert psutil.wait_procs([controller], timeout=PATIENCE)[1] == []
    fetching = detached.begin("logs", "--fetch", "--rank", "1")
    assert "rank 1 ends after" in text_of(fetching)
    watching = detached.begin("attach")
    assert "rank 1 ends after" in text_of(watching) and watching.returncode == 7

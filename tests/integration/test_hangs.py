"""Runs that hang, and runs that only seem to, with real gloo on real sshd hosts."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path

import pytest

from clusterctl.sandbox import Sandbox
from tests.integration.launching import Launch, leftovers, start

pytestmark = pytest.mark.sandbox

# Rank 1 does something else at step 3; with "evaluates" and "saves" it is rank 0, which comes back.
SCRIPT = """
import os, signal, sys, time
import torch, torch.distributed as dist
what = sys.argv[1]
class Items(torch.utils.data.Dataset):
    def __len__(self): return 1000
    def __getitem__(self, index):
        if index == 40: os.kill(os.getpid(), signal.SIGSTOP)
        return index
def main():
    if what == "never-joins" and os.environ["RANK"] == "1":
        time.sleep(10000)
    dist.init_process_group("gloo")
    rank, x = dist.get_rank(), torch.ones(100)
    for step in range(6):
        if step == 3 and rank == 1:
            if what == "stops": os.kill(os.getpid(), signal.SIGSTOP)
            if what == "sleeps": time.sleep(10000)
            if what == "spins":
                while True: pass
            if what == "returns": sys.exit(0)
            if what == "another": dist.broadcast(x, 0)
            if what == "loader":
                for _ in torch.utils.data.DataLoader(Items(), batch_size=4, num_workers=1): pass
        if step == 3 and rank == 0:
            until = time.time() + 14
            if what == "evaluates":
                total = 0
                while time.time() < until: total += sum(range(1000))
            if what == "saves":
                while time.time() < until:
                    with open("checkpoint", "wb") as file:
                        file.write(bytes(1000)); file.flush(); os.fsync(file.fileno())
                    time.sleep(0.2)
        dist.all_reduce(x)
        print("step", step, flush=True)
        time.sleep(0.2)
    dist.destroy_process_group()
if __name__ == "__main__":
    main()
"""
OPTIONS = ["-n", "2", "--gpus-per-node", "1", "--hang-timeout"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


def launched(sandbox: Sandbox, project: Path, what: str, limit: str = "4s", *options: str) -> Launch:
    pytest.importorskip("torch")
    return start(sandbox, "train.py", what, cwd=project, options=[*OPTIONS, limit, *options])


def assert_hung(found: Launch, sandbox: Sandbox, *, rank: int | None = 1) -> str:
    """Stopped for the hang of ``rank``, everywhere, with all that was seen on disk. The sentence."""
    found.finish()
    assert found.code == 122, found.text
    outcome = found.outcome
    cause = outcome["cause"]
    assert (outcome["status"], cause["kind"]) == ("hung", "hang")
    if rank is not None:
        assert (cause["host"], cause["rank"]) == (f"node{rank + 1}", rank), found.text
    assert outcome["left_behind"] == {"node1": 0, "node2": 0}
    assert not leftovers(sandbox, found.run.name)
    for look in (1, 2):  # a busy host may have shown too little, and been looked at again
        for host in ("node1", "node2"):
            path = found.run / f"hang/look-{look}/{host}.json"
            assert json.loads(path.read_text())["look"] == look
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    newest = max(found.run.glob("hang/verdict-*.json"), key=lambda path: int(path.stem.rpartition("-")[2]))
    verdict = json.loads(newest.read_text())
    assert verdict["stop"]
    assert verdict["sentence"] == cause["message"]
    return str(cause["message"])


def test_what_torch_dumped_comes_home_and_to_no_screen(sandbox: Sandbox, project: Path) -> None:
    script = 'printf "pick\\377le-$RANK" > "$TORCH_FR_DUMP_TEMP_FILE$RANK"; sleep 1; exit 3'
    (project / "dump.sh").write_text(script)
    options = [*OPTIONS, "10m", "--no-python"]
    found = start(sandbox, "sh", "dump.sh", cwd=project, options=options).finish()
    assert found.code == 3, found.text
    assert found.outcome["incomplete_logs"] == []
    for rank in (0, 1):
        path = found.run / f"logs/node{rank + 1}/flight-{rank}.pickle"
        assert path.read_bytes() == b"pick\xffle-%d" % rank
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "le-0" not in found.text


@pytest.mark.training
def test_a_rank_that_was_stopped_is_named(sandbox: Sandbox, project: Path) -> None:
    found = launched(sandbox, project, "stops")
    sentence = assert_hung(found, sandbox)
    assert "SIGSTOP" in sentence
    assert "all_reduce" in sentence
    assert "Server listening" not in found.log("node1", 0), "nothing of ours is in the user's log"


@pytest.mark.training
@pytest.mark.parametrize("what", [pytest.param("evaluates", marks=pytest.mark.long), "saves"])
def test_a_rank_that_works_in_silence_is_left_alone(sandbox: Sandbox, project: Path, what: str) -> None:
    found = launched(sandbox, project, what).finish()
    assert found.code == 0, found.text
    assert found.log("node2", 1).endswith("step 5\n")


@pytest.mark.long
@pytest.mark.training
@pytest.mark.parametrize("what", ["sleeps", "loader", "never-joins"])
def test_a_rank_that_never_comes_is_named(sandbox: Sandbox, project: Path, what: str) -> None:
    assert_hung(launched(sandbox, project, what), sandbox)


@pytest.mark.long
@pytest.mark.training
def test_two_ranks_in_different_collectives_are_told_both(sandbox: Sandbox, project: Path) -> None:
    sentence = assert_hung(launched(sandbox, project, "another"), sandbox, rank=None)
    assert "all_reduce" in sentence
    assert "broadcast" in sentence


@pytest.mark.long
@pytest.mark.training
def test_a_rank_that_returned_early_is_named(sandbox: Sandbox, project: Path) -> None:
    """gloo notices that its peer is gone, or waits: either way it is not the waiting rank that is blamed."""
    found = launched(sandbox, project, "returns").finish()
    assert found.code != 0
    assert "node2" in found.text


@pytest.mark.long
@pytest.mark.training
def test_report_goes_on_until_somebody_stops_it(sandbox: Sandbox, project: Path) -> None:
    found = launched(sandbox, project, "sleeps", "4s", "--on-hang", "report")
    found.wait_for(lambda events: any("--on-hang report" in e.get("text", "") for e in events))
    found.signal(signal.SIGINT)
    found.finish()
    assert found.code == 123, found.text


@pytest.mark.long
@pytest.mark.training
def test_a_stop_while_it_is_looked_at_works(sandbox: Sandbox, project: Path) -> None:
    found = launched(sandbox, project, "sleeps", "20s")
    found.wait_for_logs("step 2", 2)
    found.wait_for(lambda _: (found.run / "hang/look-1/node2.json").exists())
    found.signal(signal.SIGINT)
    found.finish()
    assert found.code == 123, found.text
    assert found.outcome["cause"]["kind"] == "operator"


@pytest.mark.long
@pytest.mark.training
def test_a_host_that_shows_nothing_is_not_blamed(sandbox: Sandbox, project: Path) -> None:
    """Its observer stands still: nobody knows what the rank there does, so nobody is stopped for it."""
    found = launched(sandbox, project, "sleeps", "10s")
    found.wait_for_logs("step 2", 2)
    find = (
        "import os, signal\n"
        "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
        "    try: command = open(f'/proc/{pid}/cmdline').read()\n"
        "    except OSError: continue\n"
        f"    if 'observer.py' in command and {found.run.name!r} in command and int(pid) != os.getpid():\n"
        "        os.kill(int(pid), signal.SIGSTOP)\n"
    )
    sandbox.host("node2").run(["python3", "-c", find])
    for name in ("look-1/node1.json", "look-2/node1.json", "verdict-1.json"):
        found.wait_for(lambda _, name=name: (found.run / "hang" / name).exists())  # type: ignore[misc]
    newest = max(found.run.glob("hang/verdict-*.json"), key=lambda path: int(path.stem.rpartition("-")[2]))
    verdict = json.loads(newest.read_text())
    assert not verdict["stop"]
    assert found.process.poll() is None
    found.signal(signal.SIGINT)
    assert found.finish().code == 123
    assert not leftovers(sandbox, found.run.name)

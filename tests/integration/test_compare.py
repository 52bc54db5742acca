"""`clusterctl compare` on real hosts: a script of the user's, and the shipped one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.advise.compare.judge import judge
from clusterctl.advise.compare.model import Comparison
from clusterctl.sandbox import Sandbox
from clusterctl.session.compare import read

pytestmark = pytest.mark.sandbox

SCRIPT = """
import json, os, sys, time
strategy, steps = sys.argv[1].partition("=")[2], int(sys.argv[2])
assert os.environ["CLUSTERCTL_MEASURE"] == "2"
for step in range(1, steps + 1):
    if strategy == "broken" and step == 4:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
    if strategy == "endless":
        time.sleep(0.2)
    slow = 2.0 if strategy == "slow" else 1.0
    with open(os.environ["CLUSTERCTL_METRICS"], "a") as file:
        told = {"step": step, "loss": 1 / step, "step_s": slow, "tokens": 50, "sent_bytes": 1000}
        print(json.dumps(told), file=file)
"""


def start(sandbox: Sandbox, cwd: Path, *words: str) -> subprocess.Popen[str]:
    hosts = ("-H", str(sandbox.hostfile), "-n", "2", "--gpus-per-node", "1")
    return subprocess.Popen(
        [sys.executable, "-m", "clusterctl", "compare", *hosts, *words],
        cwd=cwd,
        env={**os.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def compare(sandbox: Sandbox, cwd: Path, *words: str) -> tuple[Comparison, str]:
    record = cwd / "record.json"
    process = start(sandbox, cwd, "--json", str(record), "--html", str(cwd / "page.html"), *words)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, out + err
    return read(record), out


def test_each_strategy_runs_in_turn_and_a_failure_ends_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    words = ("--strategies", "slow,broken", "--steps", "8", "train.py", "--zero={strategy}", "{steps}")
    record, out = compare(sandbox, tmp_path, *words)
    assert [(each.strategy, each.repetition, each.ending) for each in record.trials] == [
        ("slow", 1, "measured"),
        ("broken", 1, "failed"),
        ("slow", 2, "measured"),
    ]
    broken = record.trials[1]
    assert broken.out_of_memory and "memory" in broken.cause
    found = judge(record)
    assert (found.best, found.row("slow").sent, found.row("slow").measured) == ("slow", 1000, 2)
    assert found.parity.deviations[0].relative == 0
    assert "slow: no other came into question" in out and "broken: out of memory here" in out
    assert "node[1-2] are one machine" in out
    assert "<svg" in (tmp_path / "page.html").read_text()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_there_is(sandbox: Sandbox, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    home = Path(os.environ["CLUSTERCTL_HOME"])
    before = set(home.glob("comparisons/*"))
    words = ("--strategies", "quick,endless", "--steps", "2000", "train.py", "--zero={strategy}", "{steps}")
    process = start(sandbox, tmp_path, *words)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("quick 1/2"):
            break
    process.send_signal(number)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 130
    (kept,) = set(home.glob("comparisons/*")) - before
    record = json.loads((kept / "comparison.json").read_text())
    endings = [(trial["strategy"], trial["ending"]) for trial in record["trials"]]
    assert endings[0] == ("quick", "measured") and endings[1:] in ([], [("endless", "stopped")])
    assert "it was stopped before all had run" in " ".join(out.split())
    assert (kept / "comparison.html").stat().st_mode & 0o777 == 0o600


@pytest.mark.training
@pytest.mark.long
def test_the_shipped_script_is_measured_under_each_strategy(sandbox: Sandbox, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    shape = ("--n_layer", "2", "--d_model", "64", "--n_head", "2", "--seq_len", "32", "--micro_batch", "1")
    options = ("--strategies", "ddp,zero2,zero3", "--steps", "8", "--repeats", "1")
    record, _ = compare(sandbox, tmp_path, *options, "--", *shape, "--dtype", "fp32")
    found = judge(record)
    assert [each.ending for each in record.trials] == ["measured"] * 3
    assert found.parity.verdict is True and found.parity.tolerance == 1e-5
    for row in found.rows:
        assert row.held is not None and row.said_sent and row.sent and row.rate
        # Headers, and what clusterctl itself sends, weigh more than in a larger model.
        assert 0.95 < row.sent / row.said_sent < 1.5
    ddp, zero2, zero3 = (row.held for row in found.rows)
    assert ddp and zero2 and zero3
    assert ddp.weights == zero2.weights > 1.9 * zero3.weights
    assert ddp.optimizer == pytest.approx(2 * ddp.weights, rel=0.01)
    assert zero2.optimizer == pytest.approx(1.5 * ddp.weights, rel=0.01)

"""What ranks of a real run tell of their steps, in the directory of the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clusterctl.sandbox import Sandbox
from clusterctl.store.metrics import read_steps
from clusterctl.store.runs import RunDirectory
from clusterctl.store.samples import read_samples
from tests.integration.launching import launch
from tests.integration.standin import without_torch

pytestmark = pytest.mark.sandbox

SCRIPT = """
import json, os, time
rank = int(os.environ["RANK"])
if rank == 1:
    os.mkfifo(os.environ["CLUSTERCTL_METRICS"] + ".fifo")
    open(os.environ["CLUSTERCTL_METRICS"], "wb").write(os.urandom(1000) + b"\\n")
for step in range(1, 21):
    with open(os.environ["CLUSTERCTL_METRICS"], "a") as file:
        print(json.dumps({"step": step, "loss": 1 / step + rank, "step_s": 1 + rank, "tokens": 8}), file=file)
time.sleep(7)  # a sample takes five seconds
"""


def test_ranks_that_tell_of_steps_give_a_run_its_metrics(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    options = ["-n", "2", "--gpus-per-node", "1", *without_torch(sandbox)]
    found = launch(sandbox, "train.py", cwd=tmp_path, options=options)
    assert found.code == 0, found.text
    assert found.outcome["incomplete_logs"] == []
    steps = read_steps(found.run)
    assert [step.step for step in steps] == list(range(1, 21))
    assert [step.loss for step in steps] == [pytest.approx(1 / step + 0.5, rel=1e-6) for step in range(1, 21)]
    assert {(step.ranks, step.tokens, step.slow_host, step.slow_rank) for step in steps} == {
        (2, 16, "node2", 1)
    }
    assert found.text.count("metrics that tell of no step") == 1
    for host in ("node1", "node2"):
        sampled = read_samples(RunDirectory(found.run), host)
        assert sampled and all((each.memory or 0) > 0 and each.gpus is None for each in sampled)
        assert (found.run / "samples" / f"{host}.ndjson").read_text().startswith('{"v": 1')
    first = json.loads((found.run / "metrics" / "rank0.jsonl").read_text().splitlines()[0])
    assert first == {"step": 1, "loss": 1.0, "step_s": 1, "tokens": 8}

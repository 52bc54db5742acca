"""`clusterctl top` over hosts that live, beside one that does not; and the page that a run leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.sandbox import Sandbox
from tests.integration.launching import PATIENCE, start
from tests.integration.standin import without_torch

pytestmark = pytest.mark.sandbox

SCRIPT = """
import json, os, time
with open(os.environ["CLUSTERCTL_METRICS"], "a") as file:
    print(json.dumps({"step": 7, "loss": 1.5}), file=file)
print("waits", flush=True)
time.sleep(600)
"""


def top(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clusterctl", "top", "--once", *words],
        capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_ranks_are_seen_where_they_run_and_a_dead_host_is_a_line(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    options = ["-n", "2", "--gpus-per-node", "1", *without_torch(sandbox)]
    found = start(sandbox, "train.py", cwd=tmp_path, options=options)
    found.wait_for_logs("waits", 2)
    run = found.run.name
    told = json.loads(top(run, "--json").stdout)
    assert [line["host"] for line in told["hosts"]] == ["node1", "node2"]
    for number, line in enumerate(told["hosts"]):
        (job,) = (each for each in line["seen"]["jobs"] if each["run"] == run)
        assert job["rank"] == number and "train.py" in job["command"] and job["gpu"] is None
        assert line["seen"]["driver"] == "none" and line["seen"]["gpus"] is None
    hosts = tmp_path / "hosts"
    hosts.write_text("node1 slots=1\nnode-gone slots=1\n")
    both = top("-H", str(hosts), "--ssh-config", str(sandbox.ssh_config), "--record", str(tmp_path / "kept"))
    assert both.returncode == 1
    assert f"{run} rank 0  train.py" in both.stdout and "node-gone" in both.stdout
    again = top("--replay", str(tmp_path / "kept"))
    assert f"{run} rank 0  train.py" in again.stdout and "node-gone" in again.stdout
    found.signal()
    found.finish()
    page = (found.run / "report.html").read_text()
    assert "stopped after" in page and "step 7: loss 1.5" in page and (found.run / "hosts.json").exists()

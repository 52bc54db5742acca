"""The Python API on real hosts, by the scripts that users are shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl import Cluster
from clusterctl.sandbox import Sandbox

pytestmark = pytest.mark.sandbox
EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str, *words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *words],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_sweep_over_learning_rates(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("node1 slots=1\nnode2 slots=1\n")
    told = example("sweep.py", "hosts", cwd=tmp_path, CLUSTERCTL_SSH_CONFIG=str(sandbox.ssh_config))
    assert told.returncode == 0, told.stderr
    rows = {line.split()[1]: line for line in told.stdout.splitlines()}
    assert list(rows) == ["0.01", "0.1", "1.9", "2.1"]
    assert "e-" in rows["0.1"], rows
    assert "failed: OverflowError: diverged with a learning rate of 2.1" in rows["2.1"], rows
    assert told.stderr == "", "a session prints nothing"


def test_doctor_as_a_gate(sandbox: Sandbox, tmp_path: Path) -> None:
    told = example("doctor_in_ci.py", str(sandbox.hostfile), cwd=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.endswith("4 of 4 hosts ready\n")
    bad = example("doctor_in_ci.py", str(sandbox.hostfile), cwd=tmp_path, NCCL_SOCKET_IFNAME="wlan9")
    assert bad.returncode == 1
    assert "NCCL_SOCKET_IFNAME=wlan9 (your environment) matches no running interface" in bad.stdout
    absent = example("doctor_in_ci.py", "absent", cwd=tmp_path)
    assert absent.returncode == 64 and "absent does not exist" in absent.stderr


def test_a_notebook_on_hosts_of_its_own(sandbox: Sandbox, tmp_path: Path) -> None:
    told = example("notebook.py", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "rank-exit node2 1" in told.stdout
    assert "succeeded\nfinal loss" in told.stdout
    assert told.stderr == ""


def test_launch_and_doctor_refuse_what_the_caller_s_environment_says(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text("")
    env = {**os.environ, "NCCL_SOCKET_IFNAME": "wlan9"}
    said = "NCCL_SOCKET_IFNAME=wlan9 (your environment) matches no running interface"
    for verb, code in ((["doctor", "--quick"], 1), (["launch", "train.py"], 120)):
        told = subprocess.run(
            [sys.executable, "-m", "clusterctl", verb[0], "-H", str(sandbox.hostfile), *verb[1:]],
            cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert told.returncode == code, told.stdout + told.stderr
        assert said in " ".join((told.stdout + told.stderr).split())


def test_a_command_on_all_hosts(sandbox: Sandbox) -> None:
    answers = Cluster.from_hostfile(sandbox.hostfile, nodes=2).exec(["sh", "-c", "hostname; exit 3"])
    assert [answer.stdout for answer in answers] == [b"node1\n", b"node2\n"]
    assert answers.exit_code == 3
    assert answers.of("node2").host == "node2"
    with pytest.raises(KeyError):
        answers.of("node3")

"""`-c NAME` before real hosts, and a person who goes to where a rank is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.sandbox import Sandbox
from tests.integration.launching import PATIENCE, start
from tests.on_a_screen import OnAScreen

pytestmark = pytest.mark.sandbox


def clusterctl(*words: str, cwd: Path, config: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **({"XDG_CONFIG_HOME": str(config)} if config else {})}
    command = [sys.executable, "-m", "clusterctl", *words]
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_a_cluster_gives_a_launch_its_hosts_engine_and_variables(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "config/clusterctl").mkdir(parents=True)
    (tmp_path / "config/clusterctl/config.toml").write_text(
        f'[cluster.lab]\nhostfile = "{sandbox.hostfile}"\nengine = "torchrun"\nprofile = "cpu"\n'
        'env = {FROM_LAB = "1", BOTH = "lab"}\n'
    )
    (tmp_path / "train.py").write_text("")
    words = ("launch", "-c", "lab", "-n", "2", "--env", "BOTH=mine", "--dry-run", "--json", "train.py")
    found = clusterctl(*words, cwd=tmp_path, config=tmp_path / "config")
    assert found.returncode == 0, found.stderr
    plan = json.loads(found.stdout)
    assert plan["hostfile"] == str(sandbox.hostfile)
    for node in plan["nodes"]:
        settings = {each["name"]: (each["value"], each["origin"]) for each in node["settings"]}
        assert settings["FROM_LAB"][0] == "1" and settings["FROM_LAB"][1].startswith("cluster lab in ")
        assert settings["BOTH"] == ("mine", "--env")
    unknown = clusterctl(
        "launch", "-c", "lob", "--dry-run", "train.py", cwd=tmp_path, config=tmp_path / "config"
    )
    assert unknown.returncode == 64
    assert "there is no cluster 'lob'" in unknown.stderr and "did you mean 'lab'?" in unknown.stderr


LOOKS = """
import os
line, pid = [], os.getpid()
while pid > 1:
    with open(f"/proc/{pid}/cmdline") as file:
        line.append(file.read())
    with open(f"/proc/{pid}/stat") as file:
        pid = int(file.read().rpartition(")")[2].split()[1])
starter = "deepspeed" if any("deepspeed" in each for each in line) else "another"
given = [os.environ.get(name) for name in ("FROM_LAB", "FROM_PROFILE", "BOTH")]
print("RANK", os.environ["RANK"], starter, *given)
"""


@pytest.mark.long
@pytest.mark.training
def test_ranks_get_what_the_cluster_says_and_its_engine_starts_them(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "config/clusterctl").mkdir(parents=True)
    (tmp_path / "lab.yaml").write_text("env:\n  FROM_PROFILE: profile\n  BOTH: profile\n")
    (tmp_path / "config/clusterctl/config.toml").write_text(
        f'[cluster.lab]\nhostfile = "{sandbox.hostfile}"\nengine = "deepspeed"\n'
        f'profile = "{tmp_path}/lab.yaml"\nenv = {{FROM_LAB = "lab", BOTH = "lab"}}\n'
    )
    code = tmp_path / "code"
    code.mkdir()
    (code / "looks.py").write_text(LOOKS)
    words = ["launch", "-c", "lab", "-n", "2", "--gpus-per-node", "1", "--notify", "bell", "looks.py"]
    config = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    with OnAScreen(words, columns=80, lines=50, env=config, cwd=code) as seen:
        seen.wait_for("succeeded after")
        assert seen.end() == 0
        shown = "\n".join(seen.display)
        for rank in (0, 1):
            assert f"RANK {rank} deepspeed lab profile lab" in shown, shown
        assert seen.screen.bells == 1
    words[words.index("looks.py") :] = ["--engine", "torchrun", "--env", "BOTH=mine", "looks.py"]
    said = clusterctl(*words, cwd=code, config=tmp_path / "config")
    assert said.returncode == 0, said.stderr
    for rank in (0, 1):
        assert f"RANK {rank} another lab profile mine" in said.stdout, said.stdout
    assert "\a" not in said.stdout + said.stderr


@pytest.mark.long
def test_a_person_goes_to_a_rank_and_to_a_host(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    found = start(sandbox, "waits.py", cwd=tmp_path, options=["-n", "2", "--gpus-per-node", "1"])
    found.wait_for_ranks(2)
    run = found.run.name
    try:
        there = clusterctl("ssh", f"{run}:1", 'echo "$RANK in $PWD"; exit 7', cwd=tmp_path)
        assert there.returncode == 7, there.stderr
        assert there.stdout.startswith("1 in ") and f"{run}/1/work" in there.stdout
        host = clusterctl(
            "ssh", "-H", str(sandbox.hostfile), "node2", "--", "printf", "%s", "a b", cwd=tmp_path
        )
        assert (host.returncode, host.stdout) == (0, "a b")
        spied = clusterctl("py-spy", f"{run}:1", cwd=tmp_path)
        assert spied.returncode == 0, spied.stderr
        assert "waits.py:3" in spied.stdout
    finally:
        stopped = clusterctl("stop", run, "--now", cwd=tmp_path)
    assert stopped.returncode == 0
    found.finish()
    gone = clusterctl("ssh", f"{run}:1", cwd=tmp_path)
    assert gone.returncode == 64 and "has ended" in gone.stderr

"""`clusterctl ssh`: the command line for a host, and what then happens at the place of a rank."""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.errors import UsageError
from clusterctl.session import ssh
from clusterctl.session.cluster import Cluster
from clusterctl.session.ssh import Place


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    (tmp_path / "hosts").write_text("gpu1 slots=2\ngpu2 slots=1\n")
    return Cluster.from_hostfile(tmp_path / "hosts", ssh_config=tmp_path / "config")


def test_words_reach_the_host_as_they_were_typed(cluster: Cluster, tmp_path: Path) -> None:
    argv = ssh.to_host(cluster.target, "gpu1", ["echo", "a  b", "$HOME;x"], terminal=False)
    assert argv[:-1] == ["ssh", "-F", str(tmp_path / "config"), "--", "gpu1"]
    assert shlex.split(argv[-1]) == ["echo", "a  b", "$HOME;x"]
    assert ssh.to_host(cluster.target, "gpu1", ["df | head"], terminal=False)[-1] == "df | head"
    assert ssh.to_host(cluster.target, "gpu2", [], terminal=True)[-3:] == ["-t", "--", "gpu2"]


def test_a_host_that_is_none_of_them_is_told_the_nearest(cluster: Cluster) -> None:
    with pytest.raises(UsageError, match="gpu9 is not among the hosts") as raised:
        ssh.to_host(cluster.target, "gpu9", [], terminal=True)
    assert "did you mean gpu" in raised.value.hint


@pytest.fixture
def rank(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = {
        "PATH": os.environ["PATH"],
        "RANK": "3",
        "CLUSTERCTL_RUN": "r1/0",
        "CLUSTERCTL_METRICS": "/m",
        "PYTHONPATH": "/run/code/site:/mine",
        "SECRET": 'a b"c',
    }
    with subprocess.Popen(
        ["cat"], cwd=tmp_path, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        started.stdin.write(b"x")
        started.stdin.flush()
        started.stdout.read(1)  # it is cat by now, with its own variables
        yield started
        started.stdin.close()


def at_rank(
    pid: int, *words: str, rank: int = 3, run: str = "r1", spy: bool = False
) -> subprocess.CompletedProcess[str]:
    """As the shell of a login would run it."""
    place = Place(run=run, rank=rank, host="gpu1", pid=pid, python=sys.executable, config="")
    argv = ssh.to_rank(place, words, terminal=False, spy=spy)
    assert argv[:-1] == ["ssh", "--", "gpu1"]
    return subprocess.run(["sh", "-c", argv[-1]], capture_output=True, text=True, check=False)


def test_a_command_has_the_directory_and_the_variables_of_the_rank(
    rank: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    told = at_rank(
        rank.pid, sys.executable, "-c", "import os,json;print(json.dumps([os.getcwd(),dict(os.environ)]))"
    )
    folder, env = json.loads(told.stdout)
    assert folder == str(tmp_path.resolve())
    assert (env["RANK"], env["SECRET"], env["PYTHONPATH"]) == ("3", 'a b"c', "/mine")
    assert not [name for name in env if name.startswith("CLUSTERCTL_")]


def test_one_text_is_for_a_shell_and_several_words_are_not(rank: subprocess.Popen[bytes]) -> None:
    assert at_rank(rank.pid, "echo $RANK").stdout == "3\n"
    assert at_rank(rank.pid, "echo", "$RANK;  'x").stdout == "$RANK;  'x\n"


def test_no_variable_of_the_rank_is_on_a_command_line(rank: subprocess.Popen[bytes]) -> None:
    place = Place(run="r1", rank=3, host="gpu1", pid=rank.pid, python=sys.executable, config="")
    order = ssh.to_rank(place, ["x"], terminal=False)[-1].rpartition(" ")[2]
    assert "SECRET" not in base64.b64decode(order).decode()


@pytest.mark.parametrize(("number", "run"), [(4, "r1"), (3, "r2")])
def test_a_process_that_is_another_by_now_is_left_alone(
    rank: subprocess.Popen[bytes], number: int, run: str
) -> None:
    told = at_rank(rank.pid, "echo in", rank=number, run=run)
    assert (told.returncode, told.stdout) == (3, "")
    assert "does not run here any more" in told.stderr


def test_py_spy_looks_at_the_rank_or_is_said_to_be_missing(
    rank: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    told = at_rank(rank.pid, spy=True)
    assert told.returncode in (0, 1, 4)
    assert ("-m pip install py-spy" in told.stderr) == (told.returncode == 4)

"""`clusterctl ssh`: the command line for a host, and what then happens at the place of a rank."""

from __future__ import annotations

import base64
import json
import os
import shlex
import signal
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


def at_rank(pid: int, *words: str, rank: int = 3, run: str = "r1") -> subprocess.CompletedProcess[str]:
    """As the shell of a login would run it."""
    place = Place(run=run, rank=rank, host="gpu1", pid=pid, python=sys.executable, config="")
    argv = ssh.to_rank(place, words, terminal=False)
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


class Spied:
    """What `clusterctl py-spy` makes of a rank, on a host that is this machine."""

    def __init__(self, pid: int, python: Path) -> None:
        place = Place(run="r1", rank=3, host="gpu1", pid=pid, python=str(python), config="")
        argv, program = ssh.spying(place)
        assert argv[:-1] == ["ssh", "--", "gpu1"]
        told = subprocess.run(["sh", "-c", argv[-1]], input=program, capture_output=True, check=False)
        self.code, self.out, self.err = told.returncode, told.stdout.decode(), told.stderr.decode()


@pytest.fixture
def python_rank(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A rank as `rank.py` starts one, that stands in a function of its own."""
    folder = tmp_path / "stacks"
    folder.mkdir()
    site = Path(ssh.__file__).parents[1] / "node/run"
    (tmp_path / "waits.py").write_text(
        "def stands_here():\n    print('up', flush=True)\n    input()\nstands_here()\n"
    )
    env = {
        "PATH": str(tmp_path),
        "RANK": "3",
        "CLUSTERCTL_RUN": "r1/0",
        "CLUSTERCTL_STACKS": str(folder),
        "PYTHONPATH": str(site),
    }
    with subprocess.Popen(
        [sys.executable, "waits.py"], cwd=tmp_path, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        assert started.stdout.readline() == b"up\n"
        yield started
        started.send_signal(signal.SIGCONT)
        started.kill()


def test_without_py_spy_the_rank_shows_its_own_stacks(
    python_rank: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    spied = Spied(python_rank.pid, tmp_path / "python")
    assert (spied.code, spied.err) == (
        0,
        "py-spy is not installed there; these are the stacks that rank 3 shows by faulthandler\n",
    )
    assert f"    stands_here ({tmp_path.resolve()}/waits.py:3)\n" in spied.out


def test_where_ptrace_is_forbidden_the_rank_shows_its_own_stacks(
    python_rank: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    forbidden = "Error: Permission Denied: Try running again with elevated permissions"
    program = tmp_path / "py-spy"
    program.write_text(f"#!/bin/sh\necho '{forbidden}' >&2\nexit 1\n")
    program.chmod(0o755)
    spied = Spied(python_rank.pid, tmp_path / "python")
    assert spied.code == 0
    assert spied.err.startswith(f"py-spy sees nothing: {forbidden}; these are the stacks")
    assert "stands_here" in spied.out
    program.write_text('#!/bin/sh\necho "$@"\n')
    assert Spied(python_rank.pid, tmp_path / "python").out == f"dump --pid {python_rank.pid}\n"


def test_a_rank_that_shows_nothing_is_said_to(python_rank: subprocess.Popen[bytes], tmp_path: Path) -> None:
    python_rank.send_signal(signal.SIGSTOP)
    assert os.waitid(os.P_PID, python_rank.pid, os.WSTOPPED | os.WNOWAIT) is not None
    spied = Spied(python_rank.pid, tmp_path / "python")
    assert (spied.code, spied.out) == (4, "")
    assert "it was stopped by a signal" in spied.err
    assert f"hint: on this host: {tmp_path}/python -m pip install py-spy" in spied.err


def test_stacks_of_a_process_that_is_another_by_now_are_not_shown(rank: subprocess.Popen[bytes]) -> None:
    place = Place(run="r2", rank=3, host="gpu1", pid=rank.pid, python=sys.executable, config="")
    argv, program = ssh.spying(place)
    told = subprocess.run(["sh", "-c", argv[-1]], input=program, capture_output=True, check=False)
    assert (told.returncode, told.stdout) == (3, b"")

"""Options that people bring along from other launchers: taken with the same meaning, or explained."""

from __future__ import annotations

import argparse
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer.main

from clusterctl.cli.app import app
from clusterctl.cli.launch import unknown_option
from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.plan import launcher_flags
from clusterctl.session.cluster import Cluster
from clusterctl.session.options import LaunchOptions


class Asked(Exception):
    """What the command line came to, instead of a launch."""

    def __init__(self, cluster: Cluster, options: LaunchOptions) -> None:
        super().__init__()
        self.cluster, self.options = cluster, options


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path / "home"))
    (tmp_path / "hostfile").write_text("a slots=3\nann@b slots=2\nc slots=1\n")

    def stop_here(cluster: Cluster, options: LaunchOptions, **_: Any) -> None:
        raise Asked(cluster, options)

    monkeypatch.setattr(Cluster, "open_run", stop_here)
    return tmp_path


def asked(text: str) -> Asked:
    with pytest.raises(Asked) as caught:
        app(["launch", *shlex.split(text)], prog_name="clusterctl", standalone_mode=False)
    return caught.value


def refused(text: str) -> ClusterctlError:
    with pytest.raises(UsageError) as caught:
        app(["launch", *shlex.split(text)], prog_name="clusterctl", standalone_mode=False)
    return caught.value


def slots(text: str) -> Mapping[str, int]:
    return {host.name: len(host.slots) for host in asked(text).cluster.hosts.inventory.hosts}


@pytest.mark.parametrize("option", ["--num_nodes", "--num-nodes", "--nnodes", "--nodes"])
def test_the_number_of_hosts_has_many_names(option: str) -> None:
    assert slots(f"{option} 2 t.py") == slots(f"{option}=2 t.py") == {"a": 3, "ann@b": 2}
    assert len(slots(f"{option} -1 t.py")) == 3


@pytest.mark.parametrize(
    "option", ["--num_gpus", "--num_accelerators", "--nproc_per_node", "--gpus-per-node"]
)
def test_so_has_the_number_of_slots(option: str) -> None:
    assert slots(f"--num_nodes 2 {option} 2 t.py") == {"a": 2, "ann@b": 2}
    assert len(slots(f"{option}=-1 t.py")) == 3


def test_more_gpus_than_a_host_has_are_refused_where_deepspeed_would_make_them_up() -> None:
    error = refused("--num_gpus 2 t.py")
    assert "host 'c' has 1 slot" in error.message


def test_words_after_the_script_stay_as_they_are() -> None:
    found = asked("--no_python ./run --num_nodes 2 --a_b -1").options
    assert found.arguments == ("--num_nodes", "2", "--a_b", "-1") and not found.python


def test_deepspeeds_launcher_is_an_engine() -> None:
    found = asked("--launcher pdsh --force_multi --no_local_rank -i a:0@c --module pkg").options
    assert (found.engine, found.pdsh, found.local_rank, found.module) == ("deepspeed", True, False, True)
    assert asked("t.py").options.engine is None
    assert refused("--launcher openmpi t.py").hint == "--engine deepspeed"
    assert "keep one" in refused("--launcher pdsh --engine torchrun t.py").hint


def test_the_meeting_point_can_be_named() -> None:
    found = asked("--master_addr=10.0.0.7 --master_port 29501 t.py").options
    assert [(each.name, each.value, each.origin) for each in found.settings] == [
        ("MASTER_ADDR", "10.0.0.7", "--master-addr"),
        ("MASTER_PORT", "29501", "--master-port"),
    ]


def test_an_ssh_port_is_for_the_hosts_of_the_file_and_all_else_stays(lab: Path) -> None:
    (lab / "config").write_text("Host jump\n    User j\n")
    config = asked(f"--ssh_port 2222 --ssh-config {lab / 'config'} t.py").cluster.hosts.ssh_config
    assert config is not None and config.is_relative_to(lab / "home")
    assert config.stat().st_mode & 0o777 == 0o600
    for host, port, user in (("a", 2222, ""), ("ann@b", 2222, "ann"), ("jump", 22, "j")):
        ssh = ["ssh", "-G", "-F", str(config), host]
        told = subprocess.run(ssh, capture_output=True, text=True, check=True).stdout.splitlines()
        assert f"port {port}" in told
        assert not user or f"user {user}" in told
    assert "is not a port" in refused("--ssh_port 0 t.py").message


def test_a_virtual_environment_is_an_activation_line(lab: Path) -> None:
    target = asked("--venv_script '/opt/my venv/bin/activate' t.py").cluster.target
    assert target.profile.activate_of("a") == ". '/opt/my venv/bin/activate'"
    assert target.activation == "--venv-script"
    target = asked("--venv_script '~/v;x/activate' t.py").cluster.target
    assert target.profile.activate_of("c") == ". \"$HOME\"/'v;x/activate'"
    assert "whole path" in refused("--venv_script venv/bin/activate t.py").message
    (lab / "p.yaml").write_text("activate: conda activate x\n")
    assert "keep one" in refused("--profile p.yaml --venv_script /v/activate t.py").hint


@pytest.mark.parametrize(
    "option", ["--node_rank=0", "--no_ssh", "--save_pid", "--rdzv_backend=c10d", "--tee"]
)
def test_an_option_that_launch_does_not_take_is_explained(option: str) -> None:
    error = refused(f"{option} t.py")
    assert error.message.startswith(f"launch has no {option.partition('=')[0]}: ")


def test_every_option_of_deepspeed_is_taken_or_explained() -> None:
    """Against the parser of the DeepSpeed that is installed."""
    runner = pytest.importorskip("deepspeed.launcher.runner")
    actions: list[argparse.Action] = []
    original = argparse.ArgumentParser.parse_args
    argparse.ArgumentParser.parse_args = lambda self, **_: actions.extend(self._actions)  # type: ignore
    try:
        runner.parse_args([])
    finally:
        argparse.ArgumentParser.parse_args = original  # type: ignore[method-assign]
    names = {name for action in actions for name in action.option_strings if name.startswith("--")}
    assert len(names) > 20
    read = launcher_flags.LAUNCHERS["deepspeed"].reads
    assert read is not None
    taken = launch_options()
    for name in names - {"--help"}:
        dashed = name.replace("_", "-")
        assert (dashed in taken) != (unknown_option(name) is not None), name
        assert dashed in read.valued | read.switches, name


def launch_options() -> set[str]:
    group: Any = typer.main.get_command(app)
    return {name for each in group.commands["launch"].params for name in each.opts}


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (
            "--hang-timeout 2m --env LR=1 accelerate launch --mixed_precision bf16 t.py a",
            "clusterctl launch --hang-timeout 2m --env LR=1 --env ACCELERATE_MIXED_PRECISION=bf16 t.py a",
        ),
        ("--force -- mpirun -np 4 python t.py", "clusterctl launch --force t.py"),
        (
            "--engine deepspeed --time-limit 2h deepspeed --num_nodes 2 t.py",
            "clusterctl launch --engine deepspeed --time-limit 2h --nodes 2 t.py",
        ),
        ("-m --hang-timeout 0 torch.distributed.launch t.py", "clusterctl launch --hang-timeout 0 t.py"),
        ("--env API_TOKEN=secret1 srun t.py", "clusterctl launch --env 'API_TOKEN=(hidden)' t.py"),
    ],
)
def test_the_line_to_type_has_what_was_typed_before(
    typed: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["launch", "--dry-run", *shlex.split(typed)]
    monkeypatch.setattr("sys.argv", ["clusterctl", *words])
    with pytest.raises(UsageError) as caught:
        app(words, prog_name="clusterctl", standalone_mode=False)
    assert caught.value.hint == hint.replace("launch ", "launch --dry-run ", 1)

"""Every source of variables reaches doctor and launch alike, with its origin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.errors import UsageError
from clusterctl.facts.machine import Logind
from clusterctl.facts.model import Activation
from clusterctl.session import variables
from clusterctl.session.cluster import Cluster
from clusterctl.session.options import LaunchOptions
from clusterctl.session.refused import NotReadyError, RefusedError
from tests.conftest import AnsweringHosts

NAME = "NCCL_SOCKET_IFNAME"
BAD = "wlan9"


def activated_by(line: Activation, hosts: AnsweringHosts) -> None:
    for host, facts in hosts.facts.items():
        hosts.facts[host] = msgspec.structs.replace(facts, activation=line)


Where = Callable[[pytest.MonkeyPatch, AnsweringHosts], dict[str, str]]


def _by_option(patch: pytest.MonkeyPatch, answering_hosts: AnsweringHosts) -> dict[str, str]:
    return {"env": f"{NAME}={BAD}"}


def _by_env_file(patch: pytest.MonkeyPatch, answering_hosts: AnsweringHosts) -> dict[str, str]:
    Path("vars").write_text(f"# mine\n{NAME}={BAD}\n")
    return {"env_file": "vars"}


def _by_profile(patch: pytest.MonkeyPatch, answering_hosts: AnsweringHosts) -> dict[str, str]:
    Path("lab.yaml").write_text(f"env:\n  {NAME}: {BAD}\n")
    return {"profile": "lab.yaml"}


def _by_profile_of_one_host(patch: pytest.MonkeyPatch, answering_hosts: AnsweringHosts) -> dict[str, str]:
    Path("lab.yaml").write_text(f"hosts:\n  node2:\n    env:\n      {NAME}: {BAD}\n")
    return {"profile": "lab.yaml"}


def _by_activation(patch: pytest.MonkeyPatch, answering_hosts: AnsweringHosts) -> dict[str, str]:
    Path("lab.yaml").write_text("activate: module load train\n")
    line = Activation(variables={NAME: BAD})
    answering_hosts.facts = {
        host: msgspec.structs.replace(of_host, activation=line)
        for host, of_host in answering_hosts.facts.items()
    }
    return {"profile": "lab.yaml"}


def _by_deepspeed_file(patch: pytest.MonkeyPatch, answering_hosts: AnsweringHosts) -> dict[str, str]:
    Path(".deepspeed_env").write_text(f"{NAME}={BAD}\n")
    return {}


def _by_deepspeed_file_at_home(patch: pytest.MonkeyPatch, answering_hosts: AnsweringHosts) -> dict[str, str]:
    (Path.home() / ".deepspeed_env").write_text(f"{NAME}={BAD}\n")
    return {}


def _by_environment(patch: pytest.MonkeyPatch, answering_hosts: AnsweringHosts) -> dict[str, str]:
    patch.setenv(NAME, BAD)
    return {}


SOURCES: dict[str, Where] = {
    "--env": _by_option,
    "vars line 2": _by_env_file,
    "profile lab.yaml": _by_profile,
    "profile lab.yaml: activate": _by_activation,
    ".deepspeed_env line 1": _by_deepspeed_file,
    "/.deepspeed_env line 1": _by_deepspeed_file_at_home,
    "your environment": _by_environment,
}


@pytest.mark.parametrize("origin", SOURCES)
def test_doctor_and_launch_refuse_the_same_value_and_say_where_it_comes_from(
    origin: str, answering_hosts: AnsweringHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = SOURCES[origin](monkeypatch, answering_hosts)
    hosts = Cluster.from_hostfile(profile=given.get("profile", ""))
    env = [given["env"]] if "env" in given else []
    report = hosts.doctor(env=env, env_file=given.get("env_file", ""))
    (finding,) = [each for each in report.findings if each.code == "net.ifname-user"]
    assert finding.hosts == ("node1", "node2")
    assert finding.observed.startswith(f"{NAME}={BAD} (")
    assert f"{origin}) matches no running interface" in finding.observed
    with pytest.raises(NotReadyError) as caught:
        hosts.launch("train.py", env=env, options=LaunchOptions(env_file=given.get("env_file", "")))
    assert finding in caught.value.examination.report.findings
    assert caught.value.exit_code == 120
    assert list((Path.home() / ".clusterctl" / "runs").iterdir()) == []


def test_one_host_s_own_setting_is_judged_on_that_host(
    answering_hosts: AnsweringHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = _by_profile_of_one_host(monkeypatch, answering_hosts)
    report = Cluster.from_hostfile(profile=given["profile"]).doctor()
    (finding,) = [each for each in report.findings if each.code == "net.ifname-user"]
    assert finding.hosts == ("node2",)


def test_the_plan_has_what_was_examined_and_nothing_else(
    answering_hosts: AnsweringHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCCL_DEBUG", "TRACE")
    monkeypatch.setenv("NCCL_P2P_LEVEL", "SYS")
    Path(".deepspeed_env").write_text("NCCL_DEBUG=WARN\nMINE=1\n")
    plan = Cluster.from_hostfile().plan("train.py", env={"MINE": "2"})
    for node in plan.nodes:
        found = {setting.name: (setting.value, setting.origin) for setting in node.settings}
        assert found["NCCL_DEBUG"] == ("WARN", ".deepspeed_env line 1")
        assert found["NCCL_P2P_LEVEL"] == ("SYS", "your environment")
        assert found["MINE"] == ("2", "--env")
        assert found[NAME] == ("=eth0", "clusterctl: proven by traffic")
    (request,) = answering_hosts.requests
    assert request.env["node1"] == {"MINE": "2"}
    assert request.defaults["node1"]["NCCL_DEBUG"] == "WARN", "weaker than an activation line"
    assert not request.then_more


def test_what_an_activation_line_unsets_no_weaker_source_brings_back(
    answering_hosts: AnsweringHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCCL_DEBUG", "TRACE")
    Path("lab.yaml").write_text("activate: unset NCCL_DEBUG\n")
    line = Activation(removed=("NCCL_DEBUG",))
    answering_hosts.facts = {
        host: msgspec.structs.replace(each, activation=line) for host, each in answering_hosts.facts.items()
    }
    hosts = Cluster.from_hostfile(profile="lab.yaml")
    (node, _) = hosts.plan("train.py").nodes
    assert node.removed == ("NCCL_DEBUG",)
    assert "NCCL_DEBUG" not in {setting.name for setting in node.settings}
    (node, _) = hosts.plan("train.py", env=["NCCL_DEBUG=INFO"]).nodes
    assert node.removed == ()
    assert "INFO" in {setting.value for setting in node.settings}


def test_the_master_port_of_any_source_is_answering_hosts_for(answering_hosts: AnsweringHosts) -> None:
    Path(".deepspeed_env").write_text("MASTER_PORT=29777\n")
    Cluster.from_hostfile().doctor()
    assert answering_hosts.requests[0].master_port == 29777
    Path(".deepspeed_env").write_text("MASTER_PORT=web\n")
    with pytest.raises(UsageError, match="MASTER_PORT=web is not a port"):
        Cluster.from_hostfile().doctor()


def test_a_file_of_variables_that_is_no_text_is_named(answering_hosts: AnsweringHosts) -> None:
    Path(".deepspeed_env").write_bytes(b"A=\xff\xfe\n")
    with pytest.raises(UsageError, match=r"\.deepspeed_env: it is not UTF-8 text"):
        Cluster.from_hostfile().doctor()
    with pytest.raises(UsageError, match="--env-file absent: No such file"):
        Cluster.from_hostfile().doctor(env_file="absent")


def test_hosts_without_deepspeed_are_named_with_their_interpreter(answering_hosts: AnsweringHosts) -> None:
    for host, of_host in answering_hosts.facts.items():
        packages = {name: version for name, version in of_host.python.packages.items() if name != "deepspeed"}
        bare = msgspec.structs.replace(of_host.python, packages=packages, executable="/py")
        answering_hosts.facts[host] = msgspec.structs.replace(of_host, python=bare)
    with pytest.raises(RefusedError) as caught:
        Cluster.from_hostfile().plan("train.py", options=LaunchOptions(engine="deepspeed"))
    assert caught.value.message == "not started: no deepspeed on node[1-2] for /py"
    assert "/py -m pip install deepspeed" in caught.value.hint
    assert Cluster.from_hostfile().plan("train.py").world_size == 2


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        (Logind(remove_ipc=True), "ada's shared memory (RemoveIPC)"),
        (Logind(kill_processes=True), "ada's processes (KillUserProcesses)"),
    ],
    ids=("RemoveIPC", "KillUserProcesses"),
)
def test_a_run_that_would_lose_something_without_its_controller_is_refused(
    answering_hosts: AnsweringHosts, taken: Logind, said: str
) -> None:
    def of_node2(**changes: Any) -> None:
        answering_hosts.facts["node2"] = msgspec.structs.replace(answering_hosts.facts["node2"], **changes)

    goes_on = LaunchOptions(on_disconnect="continue")
    of_node2(user="ada", uid=1001, logind=taken)
    with pytest.raises(RefusedError) as caught:
        Cluster.from_hostfile().plan("train.py", options=goes_on)
    assert f"on node2 logind takes {said} away" in caught.value.message
    assert "sudo loginctl enable-linger ada there, or --on-disconnect stop" in caught.value.hint
    assert Cluster.from_hostfile().plan("train.py").on_disconnect == "stop"
    forced = msgspec.structs.replace(goes_on, force=True)
    assert Cluster.from_hostfile().plan("train.py", options=forced).on_disconnect == "continue"
    for harmless in ({"logind": msgspec.structs.replace(taken, linger=True)}, {"logind": taken, "uid": 0}):
        of_node2(**harmless)
        plan = Cluster.from_hostfile().plan("train.py", options=goes_on)
        assert plan.on_disconnect == "continue"


def test_nothing_else_of_the_caller_travels(answering_hosts: AnsweringHosts) -> None:
    of_hosts = variables.read(Cluster.from_hostfile().target, environ={"HF_TOKEN": "x", "NCCL_X": "1"})
    assert [setting.name for setting in of_hosts["node1"].below] == ["NCCL_X"]

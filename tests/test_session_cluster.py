"""What Python may give a cluster: types that nobody checks before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from clusterctl.errors import UsageError
from clusterctl.facts.model import Activation
from clusterctl.plan import flight_recorder
from clusterctl.plan.model import RunVariables
from clusterctl.session.cluster import Cluster
from clusterctl.session.options import LaunchOptions, checked
from tests.builders import cluster
from tests.conftest import AnsweringHosts


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": "mpi"}, "engine is 'mpi', which is not known here"),
        ({"time_limit": "10m"}, "time_limit is text, not a number or empty"),
        ({"time_limit": -1}, "time_limit=-1 is over at once"),
        ({"arguments": "--lr 3"}, "arguments is text, not a list"),
        ({"force": 1}, "force is a whole number, not true or false"),
    ],
)
def test_options_have_the_types_that_are_declared(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked(LaunchOptions(**changes))
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("start", [Cluster.plan, Cluster.open_run, Cluster.prepare_detached, Cluster.launch])
def test_no_way_to_start_goes_round_what_options_must_be(
    start: Callable[..., Any], answering_hosts: AnsweringHosts
) -> None:
    with pytest.raises(UsageError, match="spares stand by for a restart"):
        start(Cluster.from_hostfile(), options=LaunchOptions(script="t.py", spares="1"))
    with pytest.raises(UsageError, match="stdin cannot be read again"):
        start(Cluster.from_hostfile(), options=LaunchOptions(script="t.py", stdin=True, max_restarts=1))


def test_good_options_stay_as_they_are() -> None:
    options = LaunchOptions(script="t.py", arguments=("--lr", "3"), time_limit=3)
    assert checked(options) == options


def test_a_text_is_no_list_of_words(answering_hosts: AnsweringHosts) -> None:
    cluster = Cluster.from_hostfile()
    text: Any = "--lr 3"
    for call in (
        lambda: cluster.exec(text),
        lambda: cluster.plan("train.py", text),
        lambda: cluster.plan("train.py", env=text),
        lambda: cluster.doctor(env=text),
    ):
        with pytest.raises(UsageError, match="is one text, not a list of words"):
            call()
    with pytest.raises(UsageError, match="no command"):
        cluster.exec([])


def test_a_transport_that_does_not_exist_is_said_at_once(answering_hosts: AnsweringHosts) -> None:
    wrong: Any = "telnet"
    with pytest.raises(UsageError, match="telnet"):
        Cluster.from_hostfile(transport=wrong)


def test_libnccl_is_asked_under_the_very_variables_of_the_plan(answering_hosts: AnsweringHosts) -> None:
    activation = Activation(variables={"LD_LIBRARY_PATH": "/opt/nccl"}, removed=("NCCL_DEBUG", "MODULEPATH"))
    answering_hosts.facts = {
        host: msgspec.structs.replace(facts, activation=activation)
        for host, facts in cluster(2, gpus=2).items()
    }
    env = {"NCCL_SOCKET_IFNAME": "eth0", "NCCL_DEBUG": "INFO"}
    plan = Cluster.from_hostfile().plan("train.py", env=env)
    assert answering_hosts.variables == {
        node.host: RunVariables(
            address=node.address,
            python=node.python,
            env={each.name: each.value for each in node.settings if each.origin != flight_recorder.ORIGIN},
            removed=node.removed,
        )
        for node in plan.nodes
    }
    of_first = answering_hosts.variables["node1"]
    assert of_first.removed == ("MODULEPATH",)
    assert {"NCCL_SOCKET_FAMILY", "GLOO_SOCKET_IFNAME", "CUDA_VISIBLE_DEVICES"} <= of_first.env.keys()
    assert of_first.env.items() >= {**env, "LD_LIBRARY_PATH": "/opt/nccl"}.items()

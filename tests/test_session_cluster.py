"""What Python may give a cluster: types that nobody checks before."""

from __future__ import annotations

from typing import Any

import pytest

from clusterctl.errors import UsageError
from clusterctl.session.cluster import Cluster
from clusterctl.session.options import LaunchOptions, checked
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

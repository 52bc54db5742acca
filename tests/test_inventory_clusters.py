"""Named clusters: what a file may say, where an error stands, and which file wins."""

from __future__ import annotations

import pytest

from clusterctl.errors import UsageError
from clusterctl.inventory.clusters import NamedCluster, Tracking, find, over, parse, tracking


def read(text: str, *, trusted: bool = True, source: str = "c.toml") -> dict[str, NamedCluster]:
    return parse(text, source, "/etc/lab", shipped=("cpu",), trusted=trusted)


def test_paths_are_relative_to_their_file_and_shipped_profiles_stay_names() -> None:
    found = read(
        '[cluster.a]\nhostfile = "../h"\nprofile = "p.yaml"\n[cluster.b]\nhostfile="/h"\nprofile="cpu"'
    )
    assert (found["a"].hostfile, found["a"].profile) == ("/etc/h", "/etc/lab/p.yaml")
    assert (found["b"].hostfile, found["b"].profile) == ("/h", "cpu")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('[cluster.a]\n\nhostfle = "h"', "c.toml:3: `hostfle` is not known here", "did you mean `hostfile`?"),
        ('[cluster.a]\n[cluster.b]\nengine = "mpi"', "c.toml:3: there is no engine 'mpi'", "torchrun"),
        ("[cluster.a]\nhostfile = 3", "c.toml:2: hostfile is not a text", "hostfile ="),
        ("[cluster.a]\nenv = {A = 3}", "c.toml:2: env is not a table of texts", "env ="),
        ("[cluster.a]\nhostfile = h", "c.toml:2: Invalid value", "hostfile"),
        ("[clusters.a]", "c.toml:1: `clusters` is not known here", "did you mean `cluster`?"),
        ("cluster = 1", "c.toml:1: `cluster` holds one table for each name", "[cluster.lab]"),
        ("[cluster.'-x']", "c.toml:1: '-x' cannot be the name of a cluster", "letters"),
    ],
)
def test_an_error_has_its_line_and_a_way_out(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(text)
    assert message in raised.value.message
    assert hint in raised.value.hint


@pytest.mark.parametrize("line", ['profile = "p.yaml"', 'env.LD_PRELOAD = "x"', 'env = {BASH_ENV = "x"}'])
def test_a_projects_file_cannot_name_what_runs_commands(line: str) -> None:
    text = f"[cluster.a]\n{line}"
    with pytest.raises(UsageError, match=r"c\.toml:2: a project's file cannot"):
        read(text, trusted=False)
    assert read(text)["a"].name == "a"


def test_a_projects_file_may_set_the_rest() -> None:
    text = '[cluster.a]\nhostfile="h"\nprofile="cpu"\nengine="deepspeed"\nenv={NCCL_DEBUG="INFO"}'
    assert read(text, trusted=False)["a"].env == {"NCCL_DEBUG": "INFO"}


def test_the_stronger_file_wins_key_by_key_and_each_keeps_its_origin() -> None:
    weak = read('[cluster.a]\nhostfile = "h"\nengine = "torchrun"\nenv = {A = "1", B = "1"}', source="user")
    strong = read('[cluster.a]\nengine = "deepspeed"\nenv = {B = "2"}', source="project")
    both = over(strong, weak)["a"]
    assert (both.hostfile, both.engine, both.env) == ("/etc/lab/h", "deepspeed", {"A": "1", "B": "2"})
    assert both.env_origins == {"A": "cluster a in user", "B": "cluster a in project"}
    assert both.how == "cluster a: hostfile, env of user; engine, env of project"


def test_an_unknown_name_is_told_the_nearest() -> None:
    clusters = read('[cluster.lab]\nhostfile = "h"')
    with pytest.raises(UsageError, match=r"no cluster 'lba': looked in here") as raised:
        find(clusters, "lba", "here")
    assert raised.value.hint == "did you mean 'lab'?"


def test_where_metrics_go_is_said_in_a_section_of_its_own() -> None:
    text = '[track]\nto = "trackio"\nproject = "llm"\n[cluster.lab]\nhostfile = "hosts"\n'
    assert tracking(text, "f") == Tracking(to="trackio", project="llm")
    assert tracking("", "f") == Tracking()
    assert list(parse(text, "f", "/", shipped=(), trusted=True)) == ["lab"]


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ('[track]\nto = "wandbx"\n', "f:2: nothing is sent to 'wandbx'", "wandb or trackio"),
        ("[track]\nproject = 3\n", "f:2: project is not a text", 'project = "..."'),
        ('[track]\nporject = "llm"\n', "f:2: `porject` is not known here", "did you mean `project`?"),
        ("track = 1\n", "f:1: `track` is not a section", '[track] and to = "wandb"'),
    ],
)
def test_what_cannot_be_meant_there_is_refused_with_its_line(text: str, said: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        tracking(text, "f")
    assert (raised.value.message, raised.value.hint) == (said, hint)


def test_a_project_cannot_say_where_metrics_go() -> None:
    with pytest.raises(UsageError, match="f:1: a project's file cannot say where your metrics are sent"):
        parse('[track]\nto = "wandb"\n', "f", "/", shipped=(), trusted=False)

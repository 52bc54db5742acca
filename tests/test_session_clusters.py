"""`--cluster`: which hosts, and which variables, a verb then works with."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterctl.errors import UsageError
from clusterctl.session import variables
from clusterctl.session.cluster import Cluster


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's directory of files, and a project's, which is the current one."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("CLUSTERCTL_HOSTFILE", str(tmp_path / "other"))
    (tmp_path / "other").write_text("other slots=1\n")
    folder = tmp_path / "config" / "clusterctl"
    folder.mkdir(parents=True)
    (folder / "hosts").write_text("gpu1 slots=2\ngpu2 slots=1\n")
    (folder / "config.toml").write_text('[cluster.lab]\nhostfile = "hosts"\nenv = {A = "1", B = "1"}\n')
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


def test_a_cluster_has_its_hosts_and_says_which_file_gave_them(lab: Path) -> None:
    cluster = Cluster.from_hostfile(cluster="lab")
    assert cluster.names == ("gpu1", "gpu2")
    assert cluster.hosts.how.startswith("cluster lab: hostfile, env of ")


def test_an_option_wins(lab: Path) -> None:
    (lab / "mine").write_text("mine slots=1\n")
    cluster = Cluster.from_hostfile("mine", cluster="lab")
    assert cluster.names == ("mine",)
    (lab / "clusterctl.toml").write_text('[cluster.lab]\nenv = {B = "2", C = "2"}\n')
    read = variables.read(Cluster.from_hostfile(cluster="lab").target, env=["C=3"], environ={})
    settings = read["gpu1"].merged()
    values = {each.name: each.value for each in settings if each.name in "ABC"}
    assert values == {
        "A": "1",
        "B": "2",
        "C": "3",
    }
    origins = {each.name: each.origin for each in settings}
    assert (origins["B"], origins["C"]) == ("cluster lab in ./clusterctl.toml", "--env")


def test_a_cluster_without_hosts_is_refused(lab: Path) -> None:
    (lab / "clusterctl.toml").write_text('[cluster.new]\nengine = "torchrun"\n')
    with pytest.raises(UsageError, match="cluster new has no hostfile"):
        Cluster.from_hostfile(cluster="new")

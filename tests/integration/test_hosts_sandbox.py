"""A running sandbox serves when no hostfile is found, and brings its own ssh_config."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterctl.sandbox import Sandbox
from clusterctl.session.hosts import resolve

pytestmark = pytest.mark.sandbox


def test_the_running_sandbox_is_the_last_default(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = resolve(None, nodes=2)
    assert found.inventory.names == ("node1", "node2")
    assert found.ssh_config == sandbox.ssh_config
    assert "running sandbox" in found.how
    (tmp_path / "hostfile").write_text("a slots=1\n")
    assert resolve(None).inventory.names == ("a",)


def test_a_sandbox_hostfile_by_name_brings_its_ssh_config(sandbox: Sandbox) -> None:
    assert resolve(sandbox.hostfile).ssh_config == sandbox.ssh_config

"""`clusterctl init` asks real hosts and writes a hostfile that the parser takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from clusterctl.cli import init as verb
from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.inventory.hostfile import parse
from clusterctl.sandbox import FileSpec, HostSpec, Sandbox

pytestmark = pytest.mark.sandbox

FAKE_SMI = """#!/bin/sh
[ "$1" = -L ] || exit 1
echo 'GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-1)'
echo 'GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-2)'
echo 'GPU 2: NVIDIA T4 (UUID: GPU-3)'
"""
BROKEN_SMI = "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n"


def test_gpus_are_counted_and_silent_hosts_become_comments(
    make_sandbox: Callable[..., Sandbox], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def smi(text: str) -> dict[str, FileSpec]:
        return {"/usr/bin/nvidia-smi": FileSpec(text, 0o755)}

    box = make_sandbox(
        [HostSpec("gpu1", files=smi(FAKE_SMI)), HostSpec("gpu2", files=smi(BROKEN_SMI)), HostSpec("cpu1")]
    )
    hostfile = tmp_path / "hostfile"
    code = verb.command(["gpu[1-3]", "cpu1"], output=hostfile, ssh_config=str(box.ssh_config))
    assert code == 1
    lines = hostfile.read_text().splitlines()
    assert lines[0] == "gpu1 slots=3  # 2 x NVIDIA A100-SXM4-80GB, 1 x NVIDIA T4"
    assert lines[1].startswith("gpu2 slots=1  # CPU only: nvidia-smi ended with 18: Failed")
    assert lines[2].startswith("# gpu3 slots=1  (")
    assert lines[3] == "cpu1 slots=1  # no GPU: CPU only"
    inventory = parse(hostfile.read_text(), "hostfile")
    assert inventory.names == ("gpu1", "gpu2", "cpu1")
    assert inventory.warnings == ()
    shown = capsys.readouterr()
    assert "error: gpu3: " in shown.err
    assert f"wrote {hostfile}: 3 of 4 hosts" in shown.out


def test_a_file_that_exists_is_kept_unless_forced(sandbox: Sandbox, tmp_path: Path) -> None:
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("mine slots=1\n")
    with pytest.raises(UsageError, match="exists"):
        verb.command(["node1"], output=hostfile, ssh_config=str(sandbox.ssh_config))
    assert hostfile.read_text() == "mine slots=1\n"
    assert verb.command(["node1"], output=hostfile, force=True, ssh_config=str(sandbox.ssh_config)) == 0
    assert hostfile.read_text().startswith("node1 slots=")
    assert [path.name for path in tmp_path.iterdir()] == ["hostfile"]


def test_nothing_is_written_when_nobody_answers(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(ClusterctlError, match="no host answered"):
        verb.command(["nosuch.invalid"], output=tmp_path / "h", ssh_config=str(sandbox.ssh_config))
    assert list(tmp_path.iterdir()) == []


def test_names_come_from_ssh_config(sandbox: Sandbox, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"Host node2 node* !node9\n  LogLevel ERROR\nHost=node1\n  LogLevel ERROR\n"
        f"Host *\n  Include {sandbox.ssh_config}\n"
    )
    hostfile = tmp_path / "hostfile"
    assert verb.command(from_ssh_config=True, output=hostfile, ssh_config=str(config)) == 0
    names = parse(hostfile.read_text(), "h").names
    assert names[:2] == ("node2", "node1")
    assert set(names) == {"node1", "node2", "node3", "node4"}


@pytest.mark.parametrize("name", ["-oX", "#x", "a b"])
def test_names_that_no_hostfile_can_hold(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a host name"):
        verb.command([name], output=tmp_path / "h")

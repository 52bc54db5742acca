"""One controller and very many hosts: what it holds open, keeps in memory, computes. Played hosts answer."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.ssh_hosts import SshHosts

SELECT_LIMIT = 1024
MOST_MEMORY = 300 << 20


class Ended(NamedTuple):
    code: int
    told: dict[str, Any]
    errors: str
    memory: int
    """The most that was resident, in bytes."""
    cpu: float


def doctor(hosts: SshHosts, folder: Path, *options: str, files: tuple[int, int] | None = None) -> Ended:
    """`doctor --quick --json` in a process of its own; ``files``: its soft and hard limit on open files."""

    def limit() -> None:
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, files)

    out, err = folder / "out", folder / "err"
    argv = ["doctor", "--quick", "--json", str(hosts.hostfile), "--ssh-config", str(hosts.ssh_config)]
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "clusterctl", *argv, *options],
            stdout=stdout,
            stderr=stderr,
            env={key: value for key, value in os.environ.items() if key != "SSH_AUTH_SOCK"},
            preexec_fn=limit,
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    text = out.read_text()
    return Ended(
        process.returncode,
        json.loads(text) if text else {},
        err.read_text(),
        used.ru_maxrss << 10,
        used.ru_utime + used.ru_stime,
    )


def answered(ended: Ended) -> int:
    assert ended.told, ended.errors
    assert not [each for each in ended.told["findings"] if each["code"].startswith("ssh.")]
    return sum(1 for each in ended.told["hosts"].values() if each["facts"])


def test_a_low_limit_on_open_files_is_raised_or_told(tmp_path: Path) -> None:
    with SshHosts(128, tmp_path, hold=128) as hosts:
        ended = doctor(hosts, tmp_path, files=(96, 1024))
        assert answered(ended) == 128
        refused = doctor(hosts, tmp_path, files=(96, 200))
    assert refused.code == 64
    assert "128 hosts at once need some" in refused.errors
    assert "this machine allows 200" in refused.errors
    assert "--nodes " in refused.errors


def test_another_host_s_key_is_no_key_of_this_host(tmp_path: Path) -> None:
    """Hosts that share their configuration share no trust."""
    with SshHosts(3, tmp_path) as hosts:
        lines = [line.split() for line in hosts.known_hosts.read_text().splitlines()]
        lines[1][1:], lines[2][1:] = lines[2][1:], lines[1][1:]
        hosts.known_hosts.write_text("".join(" ".join(line) + "\n" for line in lines))
        ended = doctor(hosts, tmp_path)
    assert ended.code == 1
    (found,) = [each for each in ended.told["findings"] if each["code"] == "ssh.hostkey"]
    assert found["hosts"] == ["n0001", "n0002"]


@pytest.mark.long
def test_a_thousand_hosts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More sessions stand at once than `select` knows descriptors, and memory is bounded."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4 * 1024:
        pytest.skip(f"this machine allows {hard} open files")
    with SshHosts(1024, tmp_path) as hosts:
        few = doctor(hosts, tmp_path, "--nodes", "256")
    assert answered(few) == 256
    with SshHosts(1024, tmp_path, hold=640) as hosts:
        many = doctor(hosts, tmp_path, files=(256, hard))
    assert answered(many) == 1024
    assert SELECT_LIMIT < 2 * 640
    assert many.memory < MOST_MEMORY
    with capsys.disabled():
        print(
            f"\n1,024 hosts: {many.cpu:.1f} s of CPU, {many.memory >> 20} MiB; 256 hosts: {few.cpu:.1f} s, "
            f"{few.memory >> 20} MiB; {many.cpu / few.cpu:.1f} times the CPU"
        )

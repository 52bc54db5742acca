"""A fixed sample of the campaign of faults, on hosts made by hand; all of it: `python -m tests.chaos`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.hosts import UNSHARE

pytestmark = pytest.mark.sandbox
SAMPLE = (
    "rank-raises", "rank-killed", "rank-exits", "waiter-killed", "engine-killed", "agent-killed",
    "agent-stopped", "relay-killed", "session-killed", "helper-stopped", "hang-without-torch", "hang-stopped",
    "rank-restarts", "crash-loop", "detached-alone", "detached-rank-killed", "two-attach", "controller-told",
    "controller-killed", "terminal-blocked", "told-while-starting", "killed-while-starting", "two-stops",
    "stop-of-suspended", "link-cut", "link-flaps", "link-slow", "one-way", "sshd-restarts", "host-slow",
    "host-stands-still", "host-cleared", "disk-fills", "disk-is-full", "controller-disk-fills",
    "log-overflows", "hostile-login", "stuck-in-kernel", "child-became-root", "no-descriptors",
    "run-directory-gone",
)  # fmt: skip


@pytest.fixture(autouse=True)
def namespaces_of_our_own(openssh_cache: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("hosts made by hand need root")
    probe = subprocess.run(
        [*UNSHARE, "--net", "--pid", "--mount", "true"], capture_output=True, text=True, check=False
    )
    if probe.returncode != 0:
        pytest.skip(f"the kernel refuses namespaces: {probe.stderr.strip()}")


def campaign(folder: Path, *options: str) -> None:
    kept = ["--keep", str(folder / "broken"), "--results", str(folder / "results.jsonl")]
    argv = [sys.executable, "-m", "tests.chaos", *kept, *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.timeout(1800)
def test_a_fault_of_each_kind_that_is_soon_over(tmp_path: Path) -> None:
    """Side by side: a round waits more than it works."""
    campaign(tmp_path, "--each", "--kinds", ",".join(SAMPLE), "--real", "0", "--lanes", "3")


def test_a_login_of_pdsh_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    campaign(tmp_path, "--each", "--kinds", "pdsh-login-fails")


def test_kills_for_memory_and_beside_one(tmp_path: Path) -> None:
    try:
        (group := Path("/sys/fs/cgroup/memory", f"clusterctl-test-{os.getpid()}")).mkdir()
        group.rmdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    campaign(tmp_path, "--each", "--kinds", "out-of-memory,killed-beside-out-of-memory", "--real", "0")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_campaign(tmp_path: Path) -> None:
    campaign(tmp_path, "--seed", "1000", "--rounds", "100", "--lanes", "2")

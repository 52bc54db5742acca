"""A fixed sample of the campaign of faults, on hosts made by hand; all of it: `python -m tests.chaos`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos.hosts import UNSHARE

pytestmark = pytest.mark.sandbox
SAMPLE = (
    "rank-raises", "rank-killed", "waiter-killed", "engine-killed", "agent-killed", "relay-killed",
    "controller-told", "controller-killed", "link-cut", "terminal-blocked", "hostile-login",
    "stuck-in-kernel", "child-became-root", "two-stops", "no-descriptors", "run-directory-gone",
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
    argv = [sys.executable, "-m", "tests.chaos", "--keep", str(folder / "broken"), *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_one_fault_of_each_kind(tmp_path: Path) -> None:
    def half(kinds: Sequence[str]) -> None:
        campaign(tmp_path, "--each", "--kinds", ",".join(kinds), "--real", "0")

    with ThreadPoolExecutor() as both:  # a round waits more than it works
        list(both.map(half, (SAMPLE[::2], SAMPLE[1::2])))


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
    campaign(tmp_path, "--seed", "1000", "--rounds", "60")

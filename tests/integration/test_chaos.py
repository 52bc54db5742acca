"""Rounds of the campaign of faults that need more than others, which are in test_chaos_*.py; all of it is
`python -m tests.chaos`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.campaign import play, play_each

pytestmark = [pytest.mark.sandbox, pytest.mark.usefixtures("hosts_by_hand"), pytest.mark.timeout(1200)]


def test_ranks_with_torch(tmp_path: Path) -> None:
    play_each(("pdsh-login-fails", "hang-stopped"), tmp_path, "--slots", "1")


def test_kills_for_memory_and_beside_one(tmp_path: Path) -> None:
    try:
        (group := Path("/sys/fs/cgroup/memory", f"clusterctl-test-{os.getpid()}")).mkdir()
        group.rmdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    play_each(("out-of-memory", "killed-beside-out-of-memory"), tmp_path)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_campaign(tmp_path: Path) -> None:
    play(tmp_path, "--seed", "1000", "--rounds", "100", "--lanes", "2")

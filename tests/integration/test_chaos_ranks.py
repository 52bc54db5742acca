"""A fixed sample of the campaign of faults: ranks, and what stands between them and launch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.campaign import play_each

pytestmark = [pytest.mark.sandbox, pytest.mark.usefixtures("hosts_by_hand"), pytest.mark.timeout(1200)]


def test_ranks_engines_agents_and_relays(tmp_path: Path) -> None:
    # Each fourth is of one lane: the long ones are apart.
    kinds = (
        "crash-loop", "rank-restarts", "hang-without-torch", "agent-stopped", "rank-raises", "session-killed",
        "helper-stopped", "rank-exits", "relay-killed", "waiter-killed", "rank-killed", "agent-killed",
        "engine-killed",
    )  # fmt: skip
    play_each(kinds, tmp_path, "--lanes", "4")

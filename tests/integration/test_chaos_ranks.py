"""A fixed sample of the campaign of faults: ranks, and what stands between them and launch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.campaign import play_each

pytestmark = [pytest.mark.sandbox, pytest.mark.usefixtures("hosts_by_hand"), pytest.mark.timeout(1200)]


def test_ranks_engines_agents_and_relays(tmp_path: Path) -> None:
    kinds = (
        "rank-raises", "rank-killed", "rank-exits", "waiter-killed", "rank-restarts", "crash-loop",
        "hang-without-torch", "engine-killed", "agent-killed", "agent-stopped",
        "relay-killed", "session-killed", "helper-stopped",
    )  # fmt: skip
    play_each(kinds, tmp_path, "--lanes", "3")

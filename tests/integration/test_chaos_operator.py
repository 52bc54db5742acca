"""A fixed sample of the campaign of faults: who controls a run, and where from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.campaign import play_each

pytestmark = [pytest.mark.sandbox, pytest.mark.usefixtures("hosts_by_hand"), pytest.mark.timeout(1200)]


def test_the_operator_and_the_controlling_machine(tmp_path: Path) -> None:
    kinds = (
        "controller-killed", "controller-disk-fills", "no-descriptors", "run-directory-gone",
        "terminal-blocked", "detached-alone", "detached-rank-killed", "controller-told",
        "told-while-starting", "killed-while-starting", "two-stops", "stop-of-suspended", "two-attach",
    )  # fmt: skip
    play_each(kinds, tmp_path, "--lanes", "3")

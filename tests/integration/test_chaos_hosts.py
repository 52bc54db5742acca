"""A fixed sample of the campaign of faults: links, hosts and disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.campaign import play_each

pytestmark = [pytest.mark.sandbox, pytest.mark.usefixtures("hosts_by_hand"), pytest.mark.timeout(1200)]


def test_links_hosts_and_disks(tmp_path: Path) -> None:
    kinds = (
        "link-cut", "link-flaps", "link-slow", "one-way", "sshd-restarts", "host-slow", "host-stands-still",
        "host-cleared", "disk-fills", "disk-is-full", "log-overflows", "hostile-login", "stuck-in-kernel",
        "child-became-root", "child-hides",
    )  # fmt: skip
    play_each(kinds, tmp_path, "--lanes", "3")

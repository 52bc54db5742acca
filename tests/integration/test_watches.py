"""Watches on real hosts: a disk that a rank fills, a link that is down, a memory limit that kills."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusterctl.sandbox import Sandbox
from clusterctl.sandbox.spec import HostSpec
from clusterctl.session.why import why
from clusterctl.store.runs import RunDirectory
from tests.integration.launching import PATIENCE, leftovers, start
from tests.integration.standin import without_torch

pytestmark = pytest.mark.sandbox

# What rank 1 does next is said by files beside it: the test puts them there.
FILLS = """
import os, sys, time
rank, here = os.environ["RANK"], sys.argv[1]
def until(name):
    print("waits for", name, flush=True)
    while not os.path.exists(os.path.join(here, name)):
        time.sleep(0.05)
if rank == "1":
    until("fill")
    with open("/mnt/big.pt", "wb") as stream:
        stream.write(b"x" * (15 << 20))
    until("empty")
    os.unlink("/mnt/big.pt")
    until("fail")
    with open("/mnt/checkpoint.pt", "wb") as stream:
        while True:
            stream.write(b"x" * (1 << 20))
time.sleep(600)
"""


def warnings(events: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == "warned" and event["what"] == what]


def wait_on(host: Any, run: str, what: str) -> None:
    """Until the agent on a host that nobody can reach has told it."""
    until = time.monotonic() + PATIENCE
    while f'"what": "{what}"' not in str(
        host.run(["sh", "-c", f"cat ~/.clusterctl/node/{run}/*/events.jsonl"]).stdout
    ):
        assert time.monotonic() < until
        time.sleep(0.2)


def test_what_a_node_warns_of_is_shown_kept_and_explains_the_end(
    make_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    hosts = make_sandbox([HostSpec(name="a"), HostSpec(name="b")])
    b = hosts.hosts[1]
    b.admin(["mount", "-t", "tmpfs", "-o", "size=16m,mode=1777", "tmpfs", "/mnt"])
    (tmp_path / "fills.py").write_text(FILLS)
    options = ["--env", "TMPDIR=/mnt", *without_torch(hosts)]
    launch = start(hosts, "fills.py", str(b.home), cwd=tmp_path, options=options)

    def told(what: str, count: int) -> list[dict[str, Any]]:
        launch.wait_for(lambda events: len(warnings(events, what)) >= count)
        return warnings(launch.events(), what)

    launch.wait_for_logs("waits for fill", 1)
    (b.home / "fill").touch()
    (full,) = told("space", 1)
    assert full["host"] == "b" and full["subject"] == "/mnt" and not full["over"]
    assert full["files"][0] == ["/mnt/big.pt", 15 << 20]
    (b.home / "empty").touch()
    assert told("space", 2)[1]["over"]
    b.set_link("eth0", False)
    wait_on(b, launch.run.name, "link")
    b.set_link("eth0", True)
    assert [event["subject"] for event in told("link", 2)] == ["eth0", "eth0"]
    (b.home / "fail").touch()
    launch.finish()
    assert launch.code == 1
    found = why(RunDirectory(launch.run))
    assert found.sighting is not None and found.sighting.code == "disk.full"
    assert [each.means for each in found.confirmations if each.code == "watch.space"] != []
    assert "/mnt/checkpoint.pt" in json.dumps(launch.events())
    assert "seen  b: /mnt is 100 % full" in launch.text
    assert "b: eth0 has no carrier" in launch.text
    assert not leftovers(hosts, launch.run.name)

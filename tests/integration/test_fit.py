"""`fit` on real hosts: their memory is asked, and with --measure their network is tried."""

from __future__ import annotations

import json

import pytest

from clusterctl.cli.app import app
from clusterctl.sandbox import Sandbox

pytestmark = pytest.mark.sandbox


def test_the_hosts_are_asked_and_their_network_is_measured(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", "125M", "-H", str(sandbox.hostfile), "--nodes", "2", "--json"]
    assert app([*words, "--measure"], standalone_mode=False) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["world"]["ranks"] == [2, 2] and told["world"]["device"] is None
    assert told["world"]["host"] > 0 and told["world"]["bandwidth"] > 0
    assert any("measured" in note for note in told["notes"])
    by_name = {each["strategy"]["name"]: each for each in told["advice"]["candidates"]}
    seconds = by_name["zero1"]["traffic"]["seconds"]
    assert seconds == pytest.approx(by_name["zero1"]["traffic"]["bytes"] / told["world"]["bandwidth"])

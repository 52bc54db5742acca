"""`lint` with what real hosts tell: their DeepSpeed, their machines."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from clusterctl.ask import deepspeed_schema
from clusterctl.cli.app import app
from clusterctl.sandbox import Sandbox
from clusterctl.session.schemas import recorded
from clusterctl.transport import connect

pytestmark = [pytest.mark.sandbox, pytest.mark.training]

CONFIG = {"train_micro_batch_size_per_gpu": 1, "fp16": {"enabled": True}}


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="no deepspeed here")
def test_a_host_tells_what_its_deepspeed_accepts(sandbox: Sandbox) -> None:
    link = connect("fabric", sandbox.ssh_config)
    try:
        told = deepspeed_schema.of_host(link, "node1", sys.executable)
        assert told is not None and told.strict.keys() == recorded().strict.keys()
        assert deepspeed_schema.of_host(link, "node1", "/usr/bin/false") is None
        assert deepspeed_schema.of_host(link, "node1", "/usr/bin/echo") is None
    finally:
        link.close()


def test_what_the_hosts_have_is_asked(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ds.json").write_text(json.dumps(CONFIG))
    words = [
        "lint",
        str(tmp_path / "ds.json"),
        "-H",
        str(sandbox.hostfile),
        "--nodes",
        "2",
        "--ask",
        "--json",
    ]
    assert app(words, standalone_mode=False) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ranks"] == 4
    assert [each["observed"] for each in told["findings"]] == [
        "fp16 is enabled, and the hosts have no GPU: almost no CPU can"
    ]

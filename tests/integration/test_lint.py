"""`lint` with what real hosts tell: their DeepSpeed, their machines."""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest

from clusterctl.ask import deepspeed_schema
from clusterctl.cli.app import app
from clusterctl.sandbox import Sandbox
from clusterctl.session import schemas
from clusterctl.session.cluster import Cluster
from clusterctl.session.refused import RefusedError
from clusterctl.session.schemas import recorded
from clusterctl.store.home import home
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


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="no deepspeed here")
def test_a_launch_asks_for_a_version_that_nobody_has_told_of(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlike = msgspec.structs.replace(recorded(), version="0.0.1")
    monkeypatch.setattr(schemas, "recorded", lambda: unlike)
    monkeypatch.chdir(tmp_path)
    kept = home() / "schemas" / f"deepspeed-{version('deepspeed')}.json"
    kept.unlink(missing_ok=True)
    Path("train.py").write_text("print('trained')\n")
    Path("ds.json").write_text(
        json.dumps({**CONFIG, "zero_optimization": {"stage": 2, "offload_gradients": 1}})
    )
    cluster = Cluster.from_hostfile(sandbox.hostfile, nodes=2, ssh_config=sandbox.ssh_config)
    with pytest.raises(RefusedError, match="offload_gradients"):
        cluster.launch("train.py", ["--deepspeed_config", "ds.json"])
    assert kept.exists()
    kept.unlink()
    Path("ds.json").write_text(json.dumps(CONFIG))
    run = cluster.launch("train.py", ["--deepspeed_config", "ds.json"])
    assert run.wait().exit_code == 0, "what was asked in between takes nothing from the run"
    assert kept.exists()


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

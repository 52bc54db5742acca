"""Compiled kernels on hosts that share a home directory. The hosts are real; only their word
on where the home lies is changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.ask.facts import CollectedFacts
from clusterctl.ask.facts import ask as facts_of_hosts
from clusterctl.sandbox import Sandbox
from clusterctl.session import examine
from clusterctl.session import hosts as choosing
from clusterctl.session.cluster import Cluster
from clusterctl.session.options import LaunchOptions
from tests.integration.standin import without_torch

pytestmark = pytest.mark.sandbox

TELL = """
import json, os, stat
names = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR")
where = os.environ["TRITON_CACHE_DIR"]
open(os.path.join(where, "kernel-" + os.environ["RANK"]), "w").close()
found = os.stat(os.path.dirname(where))
print(json.dumps([{name: os.environ.get(name) for name in names}, stat.S_IMODE(found.st_mode), found.st_uid]))
"""


@pytest.fixture
def shared_home(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = facts_of_hosts

    def told(*words: Any, **more: Any) -> CollectedFacts:
        answers = ask(*words, **more)
        facts = {
            host: msgspec.structs.replace(of_host, shared_token="nfs4 filer:/home 7")
            for host, of_host in answers.facts.items()
        }
        return msgspec.structs.replace(answers, facts=facts)

    monkeypatch.setattr(examine, "ask", told)


def test_each_host_has_a_private_place_for_them(sandbox: Sandbox, shared_home: None, tmp_path: Path) -> None:
    """Also where somebody else was there first; and a variable that a host has itself stays as it is."""
    (tmp_path / "tell.py").write_text(TELL)
    *_, profile = without_torch(sandbox)
    cluster = Cluster(choosing.of_sandbox(sandbox), profile=profile)
    first, second = cluster.names[:2]
    options = LaunchOptions(workdir=str(tmp_path), script="tell.py", force=True)
    plan = cluster.plan(options=options)
    root = plan.nodes[0].caches
    assert root.startswith("/tmp/.clusterctl-cache-")
    sandbox.host(second).run(["mkdir", "-m", "0777", root])
    try:
        run = cluster.launch(options=options)
        assert run.wait().status == "succeeded", run.logs(0)
        told = {rank: json.loads(run.logs(rank)) for node in run.plan.nodes for rank in node.ranks}
        for node in run.plan.nodes:
            for rank in node.ranks:
                variables, mode, uid = told[rank]
                assert (mode, f"{uid}") == (0o700, root.rpartition("-")[2])
                assert variables["TORCH_EXTENSIONS_DIR"] and root not in variables["TORCH_EXTENSIONS_DIR"]
                assert (variables["TRITON_CACHE_DIR"] == f"{root}/triton") == (node.host != second)
        notes = [event["text"] for event in run.events() if event["event"] == "note"]
        assert len(notes) == 1 and notes[0].startswith("compiled kernels go to /tmp/clusterctl-caches-")
        kept = sandbox.host(first).run(["ls", f"{root}/triton"]).stdout.split()
        assert kept == sorted(f"kernel-{rank}" for rank in run.plan.nodes[0].ranks)
        assert "clusterctl-caches-" not in sandbox.host(second).run(["ls", "/tmp"]).stdout, (
            "it was for one run"
        )
        assert sandbox.host(second).run(["ls", root]).stdout == ""
    finally:
        for host in (first, second):
            sandbox.host(host).run(["rm", "-rf", root])

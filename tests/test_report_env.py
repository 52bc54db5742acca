from __future__ import annotations

import json
import subprocess

from clusterctl.facts.model import Variable
from clusterctl.network.choose import choose
from clusterctl.report.env import Export, encode, exports, shell
from tests.builders import altered, cluster, inventory


def variables(host: str = "node2") -> tuple[Export, ...]:
    facts = altered(
        cluster(3), "node2", variables=(Variable("NCCL_SOCKET_IFNAME", "^lo,a b$(x)", "/etc/nccl.conf:1"),)
    )
    hosts = inventory(facts, 2)
    return exports(hosts, choose(hosts, facts), facts[host], 29500)


def test_a_shell_reads_the_lines_back_exactly() -> None:
    script = shell("node2", variables()) + 'printf "%s|%s|%s" "$NCCL_SOCKET_IFNAME" "$NODE_RANK" "$NNODES"'
    done = subprocess.run(["/bin/sh", "-eu"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout == "^lo,a b$(x)|1|3"


def test_all_that_torchrun_needs_is_there_with_its_origin() -> None:
    found = {each.name: each for each in variables("node1")}
    assert found["MASTER_ADDR"].value == "10.0.0.2"
    assert found["MASTER_PORT"].value == "29500"
    assert found["NPROC_PER_NODE"].value == "2"
    assert found["GLOO_SOCKET_IFNAME"].value == "eth0"
    assert all(each.origin for each in found.values())


def test_json() -> None:
    document = json.loads(encode({"node2": variables()}))
    assert document["schema"] == "clusterctl.env/1"
    assert document["hosts"]["node2"]["NCCL_SOCKET_IFNAME"]["origin"] == "/etc/nccl.conf:1 on node2"

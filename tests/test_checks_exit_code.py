from __future__ import annotations

import msgspec
import pytest

from clusterctl.checks.evaluate import evaluate
from clusterctl.network.choose import choose
from tests.builders import altered, cluster, inventory


@pytest.mark.parametrize(
    ("changes", "code", "strict"),
    [
        ({}, 0, 0),
        ({"noise": "hello\n"}, 0, 1),
        ({"clock_offset": None}, 2, 2),
        ({"clock_offset": None, "noise": "hello\n"}, 2, 1),
        ({"workdir_exists": False}, 0, 0),
    ],
)
def test_exit_codes(changes: dict[str, object], code: int, strict: int) -> None:
    facts = altered(cluster(2), "node2", **changes)
    hosts = inventory(facts)
    report = evaluate(hosts, facts, network=choose(hosts, facts), quick=True)
    assert report.exit_code() == code
    assert report.exit_code(strict=True) == strict


def test_a_failure_outweighs_what_is_unknown() -> None:
    facts = altered(cluster(3), "node2", clock_offset=None)
    python = msgspec.structs.replace(facts["node3"].python, error="not found")
    facts = altered(facts, "node3", python=python)
    hosts = inventory(facts)
    assert evaluate(hosts, facts, network=choose(hosts, facts)).exit_code() == 1

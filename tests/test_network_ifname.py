from __future__ import annotations

import pytest

from clusterctl.network.ifname import GLOO, NCCL, admitted

HOST = ("lo", "docker0", "eth1", "eth10", "bond0", "bond0.100")


@pytest.mark.parametrize(
    ("value", "leaves"),
    [
        ("eth1", ("eth1", "eth10")),
        ("=eth1", ("eth1",)),
        ("=eth1 ", ()),
        ("^docker,lo", ("eth1", "eth10", "bond0", "bond0.100")),
        ("^=docker0,lo,bond0", ("eth1", "eth10", "bond0.100")),
        ("bond0", ("bond0", "bond0.100")),
        ("bond0,eth1", ("eth1", "eth10", "bond0", "bond0.100")),
        ("10.0.0.1", ()),
        ("e", HOST),
        ("=,", HOST),
        ("^=,", ()),
        ("=eth1:4000", ("eth1",)),
    ],
)
def test_nccl_reads_prefixes_exact_names_and_exclusions(value: str, leaves: tuple[str, ...]) -> None:
    assert admitted(NCCL, value, HOST) == leaves


def test_gloo_knows_plain_names_only() -> None:
    assert admitted(GLOO, "eth1,bond0", HOST) == ("eth1", "bond0")
    assert admitted(GLOO, "^lo", HOST) == ()
    assert admitted(GLOO, "eth", HOST) == ()

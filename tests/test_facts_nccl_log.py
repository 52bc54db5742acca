"""NCCL's own lines, as versions of several years print them: `fixtures/nccl`, put together from reports."""

from __future__ import annotations

from pathlib import Path

from clusterctl.facts.nccl_log import NcclLog, parse

LOGS = Path(__file__).parent / "fixtures/nccl"


def log(name: str) -> NcclLog:
    return parse((LOGS / name).read_text(encoding="utf-8").splitlines())


def test_rdma_that_reaches_the_gpus_memory() -> None:
    found = log("ib-2.19.log")
    assert (found.bootstrap_name, found.bootstrap_address) == ("enp220s0np0", "11.1.128.128")
    assert (found.network, found.direct, found.no_device) == ("IB", True, False)
    assert found.devices == ("mlx5_10:1/RoCE", "mlx5_11:1/RoCE")


def test_a_fall_back_to_tcp() -> None:
    found = log("socket-2.27.log")
    assert (found.network, found.direct, found.no_device) == ("Socket", False, True)
    assert (found.bootstrap_name, found.bootstrap_address) == ("eth0", "10.244.1.17")
    assert found.devices == ("eth0:10.244.1.17<0>", "eth1:10.9.0.17<0>")


def test_old_versions_say_it_by_their_paths() -> None:
    found = log("old-2.4.log")
    assert (found.network, found.direct, found.devices) == ("IB", False, ("mlx5_0:1/IB",))


def test_an_address_without_its_zone_and_what_it_warns_of() -> None:
    found = log("link-local.log")
    assert (found.bootstrap_name, found.bootstrap_address) == ("ib0", "fe80::a288:c203:d2:aaf2")
    assert found.warnings == ("Call to ibv_modify_qp failed with error Network is unreachable",)
    assert (found.network, found.direct) == ("", None)


def test_lines_of_others_tell_nothing() -> None:
    assert parse(["epoch 1 loss 2.3", "", "via NET"]) == NcclLog()

"""What NCCL is told about RDMA on each host, from sysfs as the probe reads it."""

from __future__ import annotations

from typing import Any

from clusterctl.network.choose import choose
from tests.builders import cluster, everywhere, inventory
from tests.fact_sets import Alteration, on, variable
from tests.faults.facts_rdma import EFA, IWARP, RXE, crossed, hdr, ndr, railed, storage
from tests.rdma_trees import Adapter, equipped, infiniband, read_back, roce

Env = dict[str, str]
OLD = on("*", python={"packages": {"nvidia-nccl-cu12": "2.20.5"}}, torch={"nccl_version": "2.20.5"})


FAST = {"NCCL_NSOCKS_PERTHREAD": "4", "NCCL_SOCKET_NTHREADS": "4"}


def told(*alter: Alteration, env: Env | None = None) -> list[Env]:
    """The variables about RDMA on each of three hosts."""
    facts = cluster(3, gpus=8)
    for alteration in alter:
        facts = alteration(facts)
    network = choose(inventory(facts), facts, settings=everywhere(facts, **(env or {})))
    assert len(network.hosts) == 3
    return [
        {
            name: value
            for name, value in entry.env.items()
            if name.startswith(("NCCL_IB_", "NCCL_CROSS", "NCCL_NS", "NCCL_SOCKET_N"))
        }
        for entry in network.hosts
    ]


def alike(*adapters: Adapter) -> Alteration:
    return equipped(dict.fromkeys((1, 2, 3), adapters))


def own(address: str = "10.9.0.{}", *further: str, **changes: Any) -> Alteration:
    """One RoCE port on each host."""
    return equipped(
        {
            host: (roce(address.format(host), *(each.format(host) for each in further), **changes),)
            for host in (1, 2, 3)
        }
    )


def test_infiniband_needs_the_exact_names_and_nothing_else() -> None:
    names = ",".join(f"mlx5_{rail}:1" for rail in range(8))
    rails = equipped({host: (*ndr(host), storage(host)) for host in (1, 2, 3)})
    assert told(rails) == [{"NCCL_IB_HCA": f"={names}"}] * 3


def test_names_are_each_host_s_own() -> None:
    found = told(equipped({1: hdr(1), 2: (infiniband(device="ibp22s0"),), 3: hdr(3)}))
    assert [each["NCCL_IB_HCA"] for each in found] == ["=mlx5_0:1", "=ibp22s0:1", "=mlx5_0:1"]


def test_adapters_of_two_generations_work_together() -> None:
    slower = infiniband(rate="100 Gb/sec (4X EDR)", model="MT4119")
    found = told(equipped({1: hdr(1), 2: (slower,), 3: hdr(3)}))
    assert found == [{"NCCL_IB_HCA": "=mlx5_0:1"}] * 3


def test_where_one_host_lacks_rdma_all_do_without() -> None:
    for lacking in ((), (RXE,), (IWARP,), (EFA,), (infiniband(state="1: DOWN"),), (roce("10.9.0.2"),)):
        found = told(equipped({1: hdr(1), 2: lacking, 3: hdr(3)}))
        assert [each["NCCL_IB_DISABLE"] for each in found] == ["1"] * 3, lacking
        assert not any("NCCL_IB_HCA" in each for each in found)


def test_what_is_no_network_of_nccl_s_stays_out() -> None:
    for left_alone in (RXE, IWARP, EFA):
        assert told(alike(left_alone)) == [{"NCCL_IB_DISABLE": "1"}] * 3
    mixed = equipped({host: (*hdr(host), RXE) for host in (1, 2, 3)})
    assert told(mixed) == [{"NCCL_IB_HCA": "=mlx5_0:1"}] * 3


def test_ethernet_that_carries_no_rdma_stays_out() -> None:
    version_1: dict[str, Any] = {"gids": (("IB/RoCE v1", "10.9.0.1"),)}
    assert told(own(**version_1)) == [{"NCCL_IB_DISABLE": "1", **FAST}] * 3
    azure = on("*", vendor="Microsoft Corporation")
    assert told(own(), azure) == [{"NCCL_IB_DISABLE": "1", **FAST}] * 3
    found = told(equipped({host: (*hdr(host), storage(host)) for host in (1, 2, 3)}), azure)
    assert [each["NCCL_IB_HCA"] for each in found] == ["=mlx5_0:1"] * 3


def test_the_port_that_leads_to_the_world_stays_out_where_others_are_left() -> None:
    way_out = on("*", default_device="ens9np0")

    def hosts(count: int) -> Alteration:
        return equipped(
            {
                host: tuple(
                    roce(
                        f"10.9.{n}.{host}",
                        device=f"mlx5_{n}",
                        netdev=f"ens{n}np0",
                        bus=f"0000:0{n}:00.0/0000:1{n}:00.0",
                    )
                    for n in (9, *range(count))
                )
                for host in (1, 2, 3)
            }
        )

    assert told(hosts(2), way_out)[0]["NCCL_IB_HCA"] == "=mlx5_0:1,mlx5_1:1"
    assert told(hosts(1), way_out)[0]["NCCL_IB_HCA"] == "=mlx5_0:1,mlx5_9:1"


def test_a_gid_index_is_for_old_nccl_only() -> None:
    assert told(own()) == [{"NCCL_IB_HCA": "=mlx5_0:1"}] * 3
    assert told(own(), OLD) == [{"NCCL_IB_HCA": "=mlx5_0:1", "NCCL_IB_GID_INDEX": "3"}] * 3
    more = roce("10.9.0.2", gids=(("RoCE v2", "10.9.0.2"),))
    found = told(equipped({1: (roce("10.9.0.1"),), 2: (more,), 3: (roce("10.9.0.3"),)}), OLD)
    assert [each["NCCL_IB_GID_INDEX"] for each in found] == ["3", "0", "3"]


def test_of_several_addresses_that_of_the_common_network_is_meant() -> None:
    found = told(own("10.9.0.{}", "192.168.{}.7"))
    assert [each["NCCL_IB_ADDR_RANGE"] for each in found] == ["10.9.0.0/24"] * 3
    assert "NCCL_IB_ADDR_RANGE" not in told(own("10.9.0.{}", "192.168.{}.7"), OLD)[0]


def test_rails_that_are_networks_of_their_own_are_not_crossed() -> None:
    for layout in (railed, crossed):
        found = told(equipped({host: layout(host) for host in (1, 2, 3)}))
        assert [each["NCCL_CROSS_NIC"] for each in found] == ["0"] * 3
    one_fabric = told(equipped({host: ndr(host) for host in (1, 2, 3)}))
    assert not any("NCCL_CROSS_NIC" in each for each in one_fabric)


def test_the_user_s_word_stays() -> None:
    rdma = equipped({host: hdr(host) for host in (1, 2, 3)})
    assert told(rdma, env={"NCCL_IB_HCA": "mlx5"}) == [{}] * 3, "it travels as the user's own"
    found = told(rdma, variable("*", "NCCL_IB_TIMEOUT", "22"), env={"NCCL_IB_GID_INDEX": "5"})
    assert found == [{"NCCL_IB_HCA": "=mlx5_0:1"}] * 3


def test_names_that_one_host_brings_count_only_where_all_have_rdma() -> None:
    conf = variable("node1", "NCCL_IB_HCA", "mlx5_0", "/etc/nccl.conf:1")
    found = told(equipped({1: hdr(1), 2: (), 3: hdr(3)}), conf)
    assert [each["NCCL_IB_DISABLE"] for each in found] == ["1"] * 3
    found = told(equipped({host: hdr(host) for host in (1, 2, 3)}), conf)
    assert [each.get("NCCL_IB_HCA") for each in found] == [None, "=mlx5_0:1", "=mlx5_0:1"]
    everywhere_named = told(equipped({1: hdr(1), 2: (RXE,), 3: hdr(3)}), env={"NCCL_IB_HCA": "mlx5,rxe"})
    assert everywhere_named == [{}] * 3


def test_rdma_that_one_host_switches_off_is_off_for_all() -> None:
    rdma = equipped({host: hdr(host) for host in (1, 2, 3)})
    found = told(rdma, variable("node2", "NCCL_IB_DISABLE", "1", "/etc/nccl.conf:1"))
    assert [each.get("NCCL_IB_DISABLE") for each in found] == ["1", None, "1"], "node2 has it already"


def test_what_the_probe_reads() -> None:
    (port,) = read_back((roce("10.9.0.1", hw_counters={"packet_seq_err": 7}, numa=1),)).rdma
    assert (port.gids, port.gid_addresses, port.netdev, port.netdev_mtu) == (
        (3,),
        ("10.9.0.1",),
        "ens1f0np0",
        9000,
    )
    assert (port.driver, port.model, port.node_type, port.software) == ("mlx5_core", "MT4119", "CA", False)
    assert (port.path, port.numa, port.retries) == (
        "0000:15:01.0/0000:16:00.0",
        1,
        {"packet_seq_err": 7},
    )
    (soft,) = read_back((RXE,)).rdma
    assert (soft.software, soft.netdev, soft.driver, soft.path) == (True, "eth0", "", "")
    (efa,) = read_back((EFA,)).rdma
    assert (efa.link_layer, efa.driver) == ("Unknown", "efa")

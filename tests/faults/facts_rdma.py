"""RDMA of several generations, as sysfs shows it: one fault each, and odd clusters that are healthy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from clusterctl.facts.model import Facts
from tests.builders import nic
from tests.fact_sets import Alteration, Case, Cluster, on, variable
from tests.rdma_trees import Adapter, equipped, infiniband, rails, roce

HOSTS = (1, 2, 3)
MANY = {"symbol_error": 40_000, "link_downed": 12}
Adapters = tuple[Adapter, ...]


def alike(own: Callable[[int], Adapters], **changes: Any) -> Alteration:
    """Adapters of every host; those of node2 with ``changes`` in the last of them."""

    def altered(host: int) -> Adapters:
        *others, last = own(host)
        return (*others, msgspec.structs.replace(last, **changes) if host == 2 else last)

    return equipped({host: altered(host) for host in HOSTS})


def ndr(host: int) -> Adapters:
    return rails(host)


def hdr(host: int) -> Adapters:
    return (infiniband(lid=f"0x{host}"),)


def flat(host: int) -> Adapters:
    return (roce(f"10.9.0.{host}", netdev="ens1f0np0"),)


def railed(host: int) -> Adapters:
    return tuple(
        roce(f"10.9.{rail}.{host}", device=f"mlx5_{rail}", netdev=f"ens{rail}np0", bus=bus(rail))
        for rail in range(2)
    )


def crossed(host: int) -> Adapters:
    one, two = railed(host)
    if host != 2:
        return one, two
    exchanged = {name: getattr(two, name) for name in ("address", "gids")}
    back = {name: getattr(one, name) for name in ("address", "gids")}
    return msgspec.structs.replace(one, **exchanged), msgspec.structs.replace(two, **back)


def bus(rail: int) -> str:
    return f"0000:{rail:02x}:01.0/0000:{rail + 16:02x}:00.0"


def numa(hosts: str, *nodes: int) -> Alteration:
    """The processor of each card, in their order."""

    def alter(facts: Cluster) -> Cluster:
        for host in facts if hosts == "*" else hosts.split():
            cards = tuple(
                msgspec.structs.replace(card, numa=node)
                for card, node in zip(facts[host].nvidia.gpus, nodes, strict=True)
            )
            facts = on(host, nvidia={"gpus": cards})(facts)
        return facts

    return alter


def old_nccl(facts: Cluster) -> Cluster:
    return on("*", python={"packages": {"nvidia-nccl-cu12": "2.20.5"}}, torch={"nccl_version": "2.20.5"})(
        facts
    )


def vendor(name: str, **changes: Any) -> Alteration:
    return on("*", vendor=name, **changes)


def with_links(facts: Facts, names: list[str], host: int) -> Facts:
    further = (
        nic(name, f"10.{60 + index}.0.{host}", speed=10_000, mtu=8244) for index, name in enumerate(names)
    )
    return msgspec.structs.replace(facts, interfaces=(*facts.interfaces, *further))


EFA = Adapter(
    device="rdmap16s27",
    driver="efa",
    model="",
    board="",
    firmware="0.0.0.0",
    node_type="7: <unknown>",
    link_layer="Unknown",
    rate="100 Gb/sec (4X EDR)",
    lid="0x0",
    sm_lid="0x0",
)
RXE = roce("", device="rxe0", software=True, netdev="eth0", rate="2.5 Gb/sec (1X SDR)", model="", board="")
IWARP = Adapter(
    device="i40iw0",
    driver="i40e",
    model="I40IW",
    node_type="4: RNIC",
    link_layer="Ethernet",
    rate="10 Gb/sec (1X QDR)",
    netdev="eth0",
    lid="0x1",
    sm_lid="0x0",
)


def storage(host: int) -> Adapter:
    return roce(f"10.20.0.{host}", device="mlx5_9", netdev="storage0", bus=bus(9), rate="200 Gb/sec (4X HDR)")


def fault(code: str, name: str, *alter: Alteration, at: str = "node2", **fields: Any) -> Case:
    return Case(
        name=f"{code}: {name}", alter=alter, expected={code: at} if code else {}, **{"gpus": 8, **fields}
    )


def odd(name: str, *alter: Alteration, **fields: Any) -> Case:
    return Case(name=name, alter=alter, **{"gpus": 8, **fields})


def lacking(own: Callable[[int], Adapters]) -> Alteration:
    return equipped({1: own(1), 2: (), 3: own(3)})


FAULTS = [
    fault("ib.present", "none on one of three HGX hosts", lacking(ndr)),
    Case(
        name="ib.present: RoCE on two of three",
        alter=(lacking(flat),),
        gpus=8,
        expected={"ib.present": "node2", "net.faster": "node2"},
    ),
    fault("ib.present", "seven rails instead of eight", equipped({1: ndr(1), 2: ndr(2)[:7], 3: ndr(3)})),
    fault("ib.state", "one rail of eight is down", alike(ndr, state="1: DOWN", physical_state="2: Polling")),
    fault("ib.state", "the only port is down", alike(hdr, state="1: DOWN", physical_state="3: Disabled")),
    fault("ib.sm", "a port that stays in INIT", alike(hdr, state="2: INIT", sm_lid="0x0", lid="0x0")),
    fault("ib.rate", "a rail at half its rate", alike(ndr, rate="200 Gb/sec (2X NDR)")),
    fault("ib.rate", "EDR instead of HDR", alike(hdr, rate="100 Gb/sec (4X EDR)")),
    fault(
        "ib.linklayer",
        "InfiniBand on two, RoCE on one",
        equipped({1: hdr(1), 2: (roce("10.9.0.2", rate="200 Gb/sec (4X HDR)", model="MT4123"),), 3: hdr(3)}),
    ),
    fault("ib.pkey", "another partition", alike(hdr, pkey="0x8001")),
    fault(
        "ib.pkey",
        "limited members",
        equipped({host: (infiniband(lid=f"0x{host}", pkey="0x7fff"),) for host in HOSTS}),
        at="node1 node2 node3",
    ),
    fault("ib.gid", "version 1 of RoCE only, on one host", alike(flat, gids=flat(2)[0].gids[:1])),
    fault(
        "ib.gid",
        "an old NCCL and GIDs at different indices",
        equipped(
            {
                host: tuple(
                    msgspec.structs.replace(
                        each,
                        gids=each.gids if rail == 0 or host != 2 else each.gids[2:],
                    )
                    for rail, each in enumerate(railed(host))
                )
                for host in HOSTS
            }
        ),
        old_nccl,
    ),
    fault("ib.mtu", "1500 under a rail", alike(railed, mtu=1500)),
    fault("ib.counters", "a link that goes down", alike(hdr, counters={"link_downed": 40})),
    fault("ib.counters", "symbol errors", alike(hdr, counters={"symbol_error": 65535, "link_downed": 0})),
    fault(
        "ib.hwcounters",
        "messages sent again",
        alike(flat, hw_counters={"packet_seq_err": 4_000, "local_ack_timeout_err": 900}),
    ),
    fault("ib.pcie", "half the lanes", alike(ndr, lanes=8)),
    fault("ib.cloud", "no EFA on one host", equipped({1: (EFA,), 3: (EFA,)})),
    fault(
        "ib.hca", "a name that begins another", alike(ndr, device="mlx5_01"), env={"NCCL_IB_HCA": "mlx5_0"}
    ),
    fault("ib.rate", "an adapter of an older kind", alike(hdr, rate="100 Gb/sec (4X EDR)", model="MT4119")),
    fault("ib.flaps", "a loose cable", alike(railed, changes=300)),
    fault("ib.rails", "two cables exchanged", equipped({host: crossed(host) for host in HOSTS})),
    fault(
        "ib.affinity",
        "an adapter in the wrong slot",
        alike(lambda host: (infiniband(lid=f"0x{host}", numa=0),), numa=1),
        numa("*", *[0] * 8),
    ),
    fault(
        "ib.peer-memory",
        "nvidia_peermem is missing on one host",
        equipped({1: ndr(1), 3: ndr(3)}),
        equipped({2: ndr(2)}, peermem=False),
    ),
    fault("ib.devices", "uverbs closed to the user", alike(hdr), on("node2", verbs_devices=False)),
    fault(
        "os.memlock",
        "64 KiB of locked memory on one host",
        alike(hdr),
        on("node2", limits={"memlock": 65536}),
    ),
]
ODD = [
    odd("eight rails of ConnectX-7", alike(ndr), numa("*", 0, 0, 0, 0, 1, 1, 1, 1)),
    odd("one ConnectX-6 for two processors", alike(hdr), numa("*", 0, 0, 0, 0, 1, 1, 1, 1)),
    odd("RoCE on ConnectX-5", alike(flat)),
    odd("RoCE in two rails", equipped({host: railed(host) for host in HOSTS})),
    odd(
        "RoCE behind routers, a network for each port",
        equipped(
            {
                host: tuple(
                    roce(f"10.{host}.{rail}.1", device=f"mlx5_{rail}", netdev=f"ens{rail}np0", bus=bus(rail))
                    for rail in range(2)
                )
                for host in HOSTS
            }
        ),
    ),
    odd("InfiniBand for data, RoCE for storage", equipped({h: (*ndr(h), storage(h)) for h in HOSTS})),
    odd("a storage adapter on one host only", equipped({1: (*ndr(1), storage(1)), 2: ndr(2), 3: ndr(3)})),
    odd(
        "a second port that no host has a cable for",
        equipped(
            {
                host: (
                    *hdr(host),
                    infiniband(device="mlx5_1", state="1: DOWN", physical_state="2: Polling", bus=bus(9)),
                )
                for host in HOSTS
            }
        ),
    ),
    odd(
        "EFA with its plugin", alike(lambda _: (EFA,)), on("*", python={"net_plugin": "/opt/libnccl-net.so"})
    ),
    odd("EFA without a plugin", alike(lambda _: (EFA,)), vendor("Amazon EC2")),
    odd(
        "Azure: InfiniBand and accelerated networking",
        equipped(
            {
                host: (
                    *(msgspec.structs.replace(each, pkey="0x8005") for each in ndr(host)),
                    roce("", device="mlx5_an0", netdev="eth1", rate="100 Gb/sec (4X EDR)", bus=bus(9)),
                )
                for host in HOSTS
            }
        ),
        vendor("Microsoft Corporation"),
    ),
    odd(
        "Google's A3: four networks for GPUs and no RDMA",
        vendor("Google"),
        lambda facts: {
            host: with_links(of_host, [f"enp{n}s0" for n in range(4)], number)
            for number, (host, of_host) in enumerate(facts.items(), start=1)
        },
    ),
    odd("RDMA in software on one host", equipped({2: (RXE,)})),
    odd("RDMA in software on all hosts", alike(lambda _: (RXE,))),
    odd("iWARP ports on the mainboards", alike(lambda _: (IWARP,))),
    odd("iWARP on one host", equipped({2: (IWARP,)})),
    odd("the same errors on all links", alike(lambda h: (infiniband(lid=f"0x{h}", counters=MANY),))),
    odd("no counters at all", alike(lambda h: (infiniband(lid=f"0x{h}"),))),
    odd(
        "other names for the same adapters",
        equipped({1: hdr(1), 2: (infiniband(device="ibp22s0", lid="0x9"),), 3: hdr(3)}),
    ),
    odd("RDMA that nobody uses: no GPU", alike(ndr), on("*", limits={"memlock": 65536}), gpus=0),
    odd(
        "RDMA switched off by the user",
        alike(hdr),
        on("*", limits={"memlock": 65536}),
        env={"NCCL_IB_DISABLE": "1"},
    ),
    odd("all adapters by their common beginning", alike(ndr), env={"NCCL_IB_HCA": "mlx5"}),
    odd("a timeout of the user's own", alike(hdr), variable("*", "NCCL_IB_TIMEOUT", "22")),
    odd("an old NCCL and one index", alike(flat), old_nccl),
    odd(
        "two addresses on one port",
        equipped({host: (roce(f"10.9.0.{host}", f"192.168.7.{host}"),) for host in HOSTS}),
    ),
]

"""Faults of the network between real hosts, and of what concerns several of them: a cluster for each."""

from __future__ import annotations

from clusterctl.sandbox import Nic
from tests.faults.clusters import ClusterRow, Machine
from tests.faults.host_changes import (
    CHOSEN_BY_THE_KERNEL,
    Change,
    command,
    firewall,
    iptables,
    script,
    segments_cut,
    switch_mtu,
)

JUMBO = Machine(nics=(Nic("eth0", mtu=9000),), changes=(segments_cut(),))
HEAD = script("echo \"$(getent hosts a | cut -d' ' -f1) head\" >> /etc/hosts")
CLOSED = Machine(changes=(firewall("in", "drop", CHOSEN_BY_THE_KERNEL),))
LARGE_VANISH = iptables(
    "-A INPUT -p tcp --dport 22 -j ACCEPT", "-A INPUT -p tcp -m length --length 1000:65535 -j DROP"
)
BEHIND_1500 = Machine(nics=(Nic("eth0", mtu=9000),), changes=(segments_cut(), switch_mtu(1500)))


def of(
    *letters: str, expected: str = "", name: str, options: tuple[str, ...] = (), **machines: Machine
) -> ClusterRow:
    """Hosts ``letters``, healthy but for ``machines``; ``expected`` as ``code host host; code host``."""
    codes = {each.split()[0]: " ".join(each.split()[1:]) for each in expected.split(";") if each.strip()}
    return ClusterRow(
        name=name,
        machines={each: machines.get(each, Machine()) for each in letters},
        expected=codes,
        options=options,
    )


def m(*changes: Change, **fields: object) -> Machine:
    return Machine(changes=changes, **fields)  # type: ignore[arg-type]


TRAFFIC: list[ClusterRow] = [
    of(
        *"abc",
        name="a firewall before the ports the OS chooses",
        expected="net.backconnect b",
        b=m(firewall("in", "drop", CHOSEN_BY_THE_KERNEL)),
    ),
    of(*"abc", name="a firewall that rejects", expected="net.backconnect b", b=m(firewall("in", "reset"))),
    of(
        *"abc",
        name="a firewall that prohibits",
        expected="net.backconnect c",
        c=m(firewall("in", "admin-prohibited")),
    ),
    of(*"abc", name="rank 0 lets nobody in", expected="net.backconnect a", a=m(firewall("in"))),
    of(*"abc", name="a host lets nothing out", expected="net.backconnect b", b=m(firewall("out"))),
    of(*"abc", name="rank 0 lets nothing out", expected="net.backconnect a", a=m(firewall("out"))),
    of(
        *"ab",
        name="a firewall on one of two hosts",
        expected="net.backconnect b",
        b=m(firewall("in", "reset")),
    ),
    of(*"abc", name="firewalls on all hosts", expected="net.backconnect a b c", a=CLOSED, b=CLOSED, c=CLOSED),
    of(*"abcd", name="firewalls on half of the hosts", expected="net.backconnect b d", b=CLOSED, d=CLOSED),
    of(
        *"abcd",
        name="the master port closed to one host",
        expected="net.master-port c",
        c=m(firewall("out", "drop", (29500, 29700))),
    ),
    of(
        *"abc",
        name="the master port closed at rank 0",
        expected="net.master-port a",
        a=m(firewall("in", "drop", (29500, 29700))),
    ),
    of(
        *"abcd",
        name="a part of the ports is closed",
        expected="net.backconnect c",
        c=m(firewall("in", "drop", (46000, 60999))),
    ),
    of(
        *"ab", name="jumbo frames that one port of two drops", expected="net.pmtu a b", a=JUMBO, b=BEHIND_1500
    ),
    of(
        *"abc",
        name="jumbo frames that one port of three drops",
        expected="net.pmtu b",
        a=JUMBO,
        b=BEHIND_1500,
        c=JUMBO,
    ),
    of(*"abc", name="large packets vanish on the way in", expected="net.pmtu c", c=m(LARGE_VANISH)),
    of(
        *"abc",
        name="two machines of one name",
        expected="host.name-clash a b",
        options=("--quick",),
        b=m(command("hostname", "a")),
    ),
    of(
        *"abc",
        name="MASTER_ADDR that is nobody's",
        expected="name.master-local a",
        options=("--quick", "--env", "MASTER_ADDR=192.0.2.1"),
    ),
    of(
        *"abc",
        name="MASTER_ADDR that one host does not know",
        expected="name.master c",
        options=("--quick", "--env", "MASTER_ADDR=head"),
        a=m(HEAD),
        b=m(HEAD),
    ),
]

"""Faults of the network between real hosts, and of what concerns several of them: a cluster for each."""

from __future__ import annotations

from clusterctl.sandbox import Nic, Sandbox
from tests.faults.clusters import ClusterRow, Machine
from tests.faults.host_changes import (
    CHOSEN_BY_THE_KERNEL,
    Change,
    bandwidth,
    command,
    firewall,
    iptables,
    no_sshd,
    script,
    segments_cut,
    switch_mtu,
)

AT_C = "$(getent hosts c | cut -d' ' -f1)"
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


THAT_OF_B = script("ip link add old0 type bridge; ip addr add $(getent hosts b | cut -d' ' -f1)/24 dev old0")
LOSSY = iptables("-A INPUT ! -i lo -p tcp -m statistic --mode random --probability 0.1 -j DROP")
ASTRAY = script(
    """address() { getent hosts $1 | cut -d' ' -f1; }
ip addr add 10.88.0.1/24 dev eth1
ip route add $(address c)/32 dev eth1 src $(address b)"""
)
LISTENER = script(
    """setsid python3 -m http.server 29500 > /dev/null 2>&1 < /dev/null &
until grep -q :733C /proc/net/tcp; do sleep 0.1; done"""
)
SAME_NETWORK = script(
    "first=$(ip -4 -o addr show eth0 | awk '{print $4}' | cut -d. -f1-3); ip addr add $first.77/24 dev eth1"
)
TRANSLATED = script(
    """I=iptables; $I -w -t nat -L > /dev/null 2>&1 || I=iptables-legacy
other=$(ip -4 -o addr show eth0 | awk '{print $4}' | cut -d. -f1-3).200
sysctl -q -w net.ipv4.conf.all.forwarding=1
ip route add $other/32 dev lo
ip neigh add proxy $other dev eth0
$I -w -t nat -A POSTROUTING -o eth0 -p tcp -j SNAT --to-source $other"""
)


def also_b(box: Sandbox) -> str:
    (block,) = [each for each in box.ssh_config.read_text().split("Host ") if each.startswith("b ")]
    return f"Host also-{block}"


def behind_a(box: Sandbox) -> str:
    return "Host b c\n  ProxyJump a\n"


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
    of(
        *"abcd",
        name="a blackhole on the way to one peer",
        expected="net.backconnect b",
        b=m(script(f"ip route add blackhole {AT_C}/32")),
    ),
    of(
        *"abcd",
        name="the master port refused to one host by rank 0",
        expected="net.master-port a",
        a=m(iptables(f"-A INPUT -p tcp -s {AT_C} --dport 29500:29700 -j REJECT --reject-with tcp-reset")),
    ),
    of(*"abc", name="large packets vanish on the way in", expected="net.pmtu c", c=m(LARGE_VANISH)),
    of(
        *"abc",
        name="large packets from the controller vanish",
        expected="ssh.path-mtu b",
        options=("--quick",),
        b=m(iptables("-A INPUT -p tcp --dport 22 -m length --length 1301:65535 -j DROP")),
    ),
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
        name="MASTER_ADDR that only rank 0's host reaches",
        expected="name.master-local a",
        options=("--quick", "--env", "MASTER_ADDR=127.0.0.1"),
    ),
    of(
        *"abc",
        name="MASTER_ADDR that one host does not know",
        expected="name.master c",
        options=("--quick", "--env", "MASTER_ADDR=head"),
        a=m(HEAD),
        b=m(HEAD),
    ),
    of(*"abc", name="a peer's address on a card that is down", expected="ip.duplicate a", a=m(THAT_OF_B)),
    of(
        *"abc",
        name="a second card in the same network",
        expected="net.dual-subnet b",
        options=("--quick",),
        b=m(SAME_NETWORK, nics=(Nic("eth0"), Nic("eth1", "lan", ""))),
    ),
    of(*"abc", name="a host behind an address of nobody's", expected="net.nat b", b=m(TRANSLATED)),
    of(
        *"abc",
        name="translated, and nobody gets in",
        expected="net.nat b",
        b=m(TRANSLATED, firewall("in")),
    ),
    ClusterRow(
        name="one machine under two names",
        machines={"a": Machine(), "b": Machine()},
        expected={"host.dup": "b also-b"},
        options=("--quick",),
        hostfile=lambda box: "a slots=1\nb slots=1\nalso-b slots=1\n",
        ssh_config=also_b,
    ),
    ClusterRow(
        name="a gateway that is down",
        machines=dict.fromkeys("abc", Machine()) | {"a": Machine(changes=(no_sshd,))},
        expected={"ssh.reach": "a b c"},
        options=("--quick",),
        ssh_config=behind_a,
    ),
    of(*"abcd", name="a tenth of what reaches a host is lost", expected="net.loss b", b=m(LOSSY)),
    of(*"abcd", name="a cable of 2 Mbit/s", expected="net.tcp-slow c", c=m(bandwidth("2mbit"))),
    of(
        *"abc",
        name="a route by another card",
        expected="net.egress b",
        b=m(ASTRAY, nics=(Nic("eth0"), Nic("eth1", "lan", ""))),
    ),
    of(
        *"abc",
        name="somebody listens on the master port",
        expected="net.master-port a",
        options=("--env", "MASTER_PORT=29500"),
        a=m(LISTENER),
    ),
]

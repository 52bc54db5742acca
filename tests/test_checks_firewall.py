"""The line that opens ports is written for the firewall that the host has."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterctl.checks.net import firewall
from clusterctl.node.probe import net
from tests.builders import healthy

IN = {
    "ufw": "sudo ufw allow proto tcp from 10.0.0.0/24 to any port 32768:60999",
    "firewalld": "sudo firewall-cmd --permanent --add-rich-rule='rule family=ipv4 source address=10.0.0.0/24 "
    "port port=32768-60999 protocol=tcp accept' && sudo firewall-cmd --reload",
    "nft": "sudo nft insert rule inet filter input ip saddr 10.0.0.0/24 tcp dport 32768-60999 accept",
    "iptables": "sudo iptables -I INPUT -p tcp -s 10.0.0.0/24 --dport 32768:60999 -j ACCEPT",
}


@pytest.mark.parametrize(("kind", "line"), IN.items())
def test_inbound(kind: str, line: str) -> None:
    assert firewall.inbound(healthy(1, firewall=kind), (32768, 60999), "10.0.0.0/24").commands == tuple(
        line.split(" && ")
    )


def test_one_port_for_everybody() -> None:
    opened = firewall.inbound(healthy(1, firewall="iptables"), (29500, 29500), "")
    assert opened.commands == ("sudo iptables -I INPUT -p tcp --dport 29500 -j ACCEPT",)


def test_where_nobody_knows_the_firewall_a_person_chooses_among_all() -> None:
    opened = firewall.inbound(None, (29500, 29500), "10.0.0.0/24")
    assert opened.commands == () and opened.advice.startswith("open TCP port 29500")
    for word in ("ufw allow", "firewall-cmd", "nft insert", "iptables -I INPUT"):
        assert sum(word in line for line in opened.ways) == 1


def test_ipv6_has_words_of_its_own() -> None:
    def line(kind: str) -> str:
        return " ".join(firewall.inbound(healthy(1, firewall=kind), (1, 9), "fd00::/64").commands)

    assert "ip6tables" in line("iptables") and "-s fd00::/64" in line("iptables")
    assert "ip6 saddr fd00::/64" in line("nft") and "family=ipv6" in line("firewalld")


def test_a_subnet_that_is_none_reaches_no_command() -> None:
    for kind in ("ufw", "firewalld", "nft", "iptables"):
        for way in (firewall.inbound, firewall.outbound):
            assert way(healthy(1, firewall=kind), (1, 9), "10.0.0.0/24; reboot").commands == ()


def test_a_cloud_filters_before_the_host_does() -> None:
    lines = firewall.inbound(healthy(1, firewall="ufw", vendor="Amazon EC2"), (1, 2), "").text.splitlines()
    assert len(lines) == 2 and "security group" in lines[1]


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("ufw", "sudo ufw allow out proto tcp to 10.0.0.0/24 port 1:9"),
        ("nft", "sudo nft insert rule inet filter output ip daddr 10.0.0.0/24 tcp dport 1-9 accept"),
        (
            "firewalld",
            "sudo firewall-cmd --permanent --direct --add-rule ipv4 filter OUTPUT 0 -p tcp -d 10.0.0.0/24 "
            "--dport 1:9 -j ACCEPT && sudo firewall-cmd --reload",
        ),
        ("iptables", "sudo iptables -I OUTPUT -p tcp -d 10.0.0.0/24 --dport 1:9 -j ACCEPT"),
    ],
)
def test_outbound(kind: str, line: str) -> None:
    assert firewall.outbound(healthy(1, firewall=kind), (1, 9), "10.0.0.0/24").commands == tuple(
        line.split(" && ")
    )


def test_which_firewall_a_host_has(tmp_path: Path) -> None:
    assert net.firewall(str(tmp_path)) == ""
    tool = tmp_path / "usr/sbin/nft"
    tool.parent.mkdir(parents=True)
    tool.write_text("")
    tool.chmod(0o755)
    assert net.firewall(str(tmp_path)) == "nft"
    (tmp_path / "sys/fs/cgroup/system.slice/firewalld.service").mkdir(parents=True)
    assert net.firewall(str(tmp_path)) == "firewalld"
    (tmp_path / "etc/ufw").mkdir(parents=True)
    (tmp_path / "etc/ufw/ufw.conf").write_text("# on boot\nENABLED=no\n")
    assert net.firewall(str(tmp_path)) == "firewalld"
    (tmp_path / "etc/ufw/ufw.conf").write_text("ENABLED=yes\nLOGLEVEL=low\n")
    assert net.firewall(str(tmp_path)) == "ufw"

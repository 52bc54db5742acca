"""What is printed as a fix can be typed: it parses, holds real names, and of a host's only what fits."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cache

import pytest

from clusterctl.checks import remedy
from clusterctl.checks.families import RULES
from clusterctl.checks.finding import Cure
from clusterctl.checks.remedy import Remedy, install, safe, shell
from clusterctl.checks.safe import CloseKey, MakeDirectory, SetAside
from clusterctl.facts.model import Address, Name
from tests.fact_sets import Alteration, Case, disk, judged, link, on
from tests.faults.facts import FAULTS

_PLACEHOLDER = re.compile(r"\b(NEW-)?(NAME|ADDRESS|HOST|VALUE|IFNAME|PORT|USER|FILE|DIR)\b|<\w+>|\.\.\.")


@cache
def cures() -> tuple[Cure, ...]:
    return tuple(cure for case in FAULTS for cure in judged(case).cures)


def test_every_command_parses_and_holds_no_placeholder() -> None:
    commands = [command for cure in cures() for command in cure.remedy.commands]
    assert len(commands) > 60
    for command in commands:
        assert shlex.split(command)
        assert "(" not in re.sub(r"'[^']*'|\$\(findmnt ", "", command), command
        assert "\n" not in command
    subprocess.run(["bash", "-n"], input="\n".join(commands), text=True, check=True)


def test_no_fix_holds_a_placeholder() -> None:
    texts = [cure.remedy.text for cure in cures()]
    texts += [remedy.remedy(rule.fix).at("node1").text for rule in RULES]
    assert [text for text in texts if _PLACEHOLDER.search(text)] == []


def test_what_is_a_command_is_no_advice() -> None:
    """A line that begins with sudo is typed: it is in the commands, where it is checked."""
    for cure in cures():
        assert not cure.remedy.advice.startswith(("sudo ", "ip ", "echo ")), cure


@pytest.mark.parametrize(
    ("template", "values", "line"),
    [
        ("ip link set {} mtu {}", ("eth0", 1500), "ip link set eth0 mtu 1500"),
        ("rm -f {}", ("/dev/shm/a b",), "rm -f '/dev/shm/a b'"),
        ("echo {} | sudo tee f", ("a'b",), "echo 'a'\"'\"'b' | sudo tee f"),
        ("echo {}", ("{}",), "echo '{}'"),
    ],
)
def test_values_are_quoted(template: str, values: tuple[str | int, ...], line: str) -> None:
    assert shell(template, values=values).commands == (line,)


def test_root_is_known_where_it_is_needed() -> None:
    assert shell("echo 1 | sudo tee f").needs_root and shell("sudo ip link").needs_root
    assert not shell("echo sudo").needs_root


BAD = ("$(reboot)", "a;reboot", "eth0\nreboot", "-x", "`id`", "", "a b", "é" * 3)


@pytest.mark.parametrize("text", BAD)
def test_what_does_not_look_like_a_name_is_none(text: str) -> None:
    checks = (remedy.ifname, remedy.account, remedy.hostname, remedy.address, remedy.subnet, remedy.unit)
    for check in checks:
        assert check(text) is None, check.__name__
    assert remedy.path(text) is None and remedy.path(f"/tmp/{text}\x1b") is None
    assert remedy.path("/home/../etc") is None
    assert shell("sudo ip link set dev {} up", values=(remedy.ifname(text),)).commands == ()


EVIL = "x;reboot"
HOSTILE: tuple[tuple[str, Alteration], ...] = (
    ("name.own", on("node2", hostname=EVIL, names=(Name(EVIL, (), "unknown"),))),
    ("os.logout", on("node2", user=EVIL, logind={"linger": False, "kill_processes": True})),
    ("os.write", disk("node2", "home", exists=False, path="/home/$(reboot)\n")),
    ("os.shm-stale", on("node2", stale_shm=("/dev/shm/../../etc/passwd",))),
    ("net.mtu", link("node2", mtu=9000, name=EVIL)),
    ("sw.numpy", on("node2", python={"executable": "/x\n;reboot", "packages": {"numpy": "9.9"}})),
)


@pytest.mark.parametrize(("code", "alter"), HOSTILE, ids=[code for code, _ in HOSTILE])
def test_what_a_host_tells_reaches_no_command_unless_it_fits(code: str, alter: Alteration) -> None:
    found = [cure for cure in judged(Case(name=code, alter=(alter,))).cures if cure.code == code]
    assert found, "the fault is seen"
    for cure in found:
        assert cure.remedy.commands == () or EVIL not in "".join(cure.remedy.commands)
        assert "reboot" not in shlex.join(word for line in cure.remedy.commands for word in shlex.split(line))


def test_a_name_of_the_hostfile_is_quoted_where_it_stands_for_HOST() -> None:
    assert shell("ssh HOST true").at("a;b").commands == ("ssh 'a;b' true",)


def test_a_value_cannot_be_taken_for_the_place_of_the_name() -> None:
    assert shell("ls {}", values=("/a b/HOST",)).at("a'b").commands == ()


def test_each_host_has_its_own_line_and_the_page_says_so() -> None:
    other = link("node3", mtu=9000, name="eno7", addresses=(Address("inet", "10.0.0.4", 16),))
    report = judged(Case(name="mtu", hosts=5, alter=(link("node2", mtu=9000), other)))
    lines = {cure.host: cure.remedy.commands for cure in report.cures if cure.code == "net.mtu"}
    assert lines == {
        "node2": ("sudo ip link set dev eth0 mtu 1500",),
        "node3": ("sudo ip link set dev eno7 mtu 1500",),
    }
    (finding,) = [each for each in report.findings if each.code == "net.mtu"]
    assert finding.fix.splitlines() == [
        "sudo ip link set dev eth0 mtu 1500",
        "for others: clusterctl doctor --fix",
    ]


def test_the_system_s_own_package_manager_is_named() -> None:
    assert install("Ubuntu 24.04 LTS", apt="a", dnf="b").commands == ("sudo apt-get install -y a",)
    assert install("Rocky Linux 9.4", apt="a", dnf="b").commands == ("sudo dnf install -y b",)
    assert install("Gentoo", apt="a", dnf="b") == Remedy(
        advice="install a with the package manager of the system"
    )


def test_what_doctor_may_do_itself_is_exactly_what_is_printed() -> None:
    for action in (SetAside("/a b"), MakeDirectory("/a b"), CloseKey("/a b")):
        cure = safe(action)
        assert [shlex.split(line) for line in cure.commands] == [list(action.words)]
        assert not cure.needs_root and "sudo" not in action.words

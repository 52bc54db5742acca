"""The script of `doctor --fix`: what it holds, what it leaves to a person; bash runs it as it reads."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from clusterctl.checks.evaluate import Report
from clusterctl.checks.finding import Cure
from clusterctl.checks.remedy import Remedy, shell
from clusterctl.inventory.hostfile import parse
from clusterctl.report.fix_script import script
from tests.builders import nic
from tests.fact_sets import Alteration, Case, beside, disk, judged, link, material, on, variable
from tests.faults.facts_single import FAULTS


def written(*alter: Alteration, **fields: int) -> str:
    case = Case(name="case", hosts=fields.get("hosts", 3), gpus=fields.get("gpus", 0), alter=alter)
    return script(judged(case), material(case).inventory, "2026-01-02T03:04:05Z", ("-F", "/a b/config"))


def run(text: str, folder: Path, *hosts: str) -> tuple[str, str]:
    """With an `ssh` and a `sudo` that only say what they were given. Returns its output and its errors."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    (tools / "ssh").write_text('#!/bin/sh\nprintf "ssh %s\\n" "$*"\n')
    (tools / "ssh").chmod(0o755)
    (folder / "fix.sh").write_text(text)
    done = subprocess.run(
        ["setsid", "--wait", "bash", str(folder / "fix.sh"), *hosts],  # no terminal
        env={"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout, done.stderr


def test_nothing_to_cure_is_no_script() -> None:
    assert written() == ""


def test_each_host_has_a_section_with_its_own_lines(tmp_path: Path) -> None:
    text = written(
        link("node2", mtu=9000),
        disk("node3", "tmp", noexec=True),
        on("node3", reboot_required="libc6 upgraded", limits={"nofile": 5}),
        hosts=5,
    )
    assert text.count("\non ") == 2 and text.startswith("#!/usr/bin/env bash\n")
    said, _ = run(text, tmp_path)
    assert (
        said
        == (
            "== node2\n"
            "ssh -F /a b/config -- node2 sudo ip link set dev eth0 mtu 1500\n"
            "== node3\n"
            'ssh -F /a b/config -- node3 sudo mount -o remount,exec "$(findmnt -fno TARGET -T /tmp)"\n'
            "\n"
            "echo 'alice - nofile 131072' | sudo tee /etc/security/limits.d/nofile.conf\n"
        ).replace("noexec", "")
        or "nofile" in said
    )
    assert "sudo reboot" not in said, "a person decides when"
    assert "#   when nobody needs the host: sudo reboot\n" in text
    assert "[root, until the next boot]" in text and "[root]" in text


def test_one_host_can_be_chosen(tmp_path: Path) -> None:
    text = written(link("node2", mtu=9000), on("node3", limits={"nofile": 5}), hosts=5)
    said, _ = run(text, tmp_path, "node3")
    assert "== node3\n" in said and "node2" not in said


def test_hosts_with_the_same_lines_share_a_section() -> None:
    names = " ".join(f"node{number}" for number in range(1, 41))
    text = written(on(names, limits={"nofile": 5}), hosts=256)
    assert text.count("limits.d/nofile.conf") == 1
    assert f"\non {names} <<'END'\n" in text
    assert len(text.splitlines()) < 60


def test_what_is_for_a_person_is_a_comment(tmp_path: Path) -> None:
    text = written(
        link("node2", speed=100), variable("node3", "GLOO_SOCKET_IFNAME", "^lo"), on("node1", noise="hi\n")
    )
    said, _ = run(text, tmp_path)
    assert said == ""
    assert "#   look: sudo ethtool eth0\n#   then: try another cable" in text
    assert "#   by hand: in ~/.bashrc, before the printing: [[ $- == *i* ]] || return\n" in text


def test_the_ways_of_every_firewall_are_comments_where_nobody_knows_it() -> None:
    remedy = Remedy(advice="open it", ways=("with ufw: sudo ufw allow 1", "with nft: sudo nft 1"))
    cure = Cure(code="net.x", severity="fail", host="a", observed="closed", expected="", remedy=remedy)
    text = script(Report(findings=(), checks=(), hosts={}, cures=(cure,)), parse("a slots=1\n", "h"), "now")
    assert "#   or: with ufw: sudo ufw allow 1\n#   or: with nft: sudo nft 1\n" in text
    assert "\non " not in text


def test_what_is_done_here_comes_first_and_once(tmp_path: Path) -> None:
    remedy = shell("echo here", where="here")
    cures = [
        Cure(code="os.x", severity="fail", host="a", observed="x", expected="", remedy=shell("echo there")),
        *(
            Cure(code="ssh.auth", severity="fail", host=host, observed="no key", expected="", remedy=remedy)
            for host in ("a", "b")
        ),
    ]
    report = Report(findings=(), checks=(), hosts={}, cures=tuple(cures))
    text = script(report, parse("a slots=1\nb slots=1\n", "h"), "now")
    said, _ = run(text, tmp_path)
    assert said == "here\n== a\nssh -- a echo there\n"
    assert "# ssh.auth (a, b): no key" in text
    assert run(text, tmp_path, "a")[0] == "== a\nssh -- a echo there\n"


def test_a_host_that_fails_is_said_and_the_next_is_gone_to(tmp_path: Path) -> None:
    text = written(link("node2", mtu=9000), on("node3", limits={"nofile": 5}), hosts=5)
    run(text, tmp_path)
    (tmp_path / "bin/ssh").write_text("#!/bin/sh\nexit 255\n")
    done = subprocess.run(
        ["setsid", "--wait", "bash", str(tmp_path / "fix.sh")],
        env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "not all of it worked on node2\nnot all of it worked on node3\n"


def test_what_a_host_says_stays_in_its_comment(tmp_path: Path) -> None:
    evil = "x\nEND\ntouch /tmp/owned\n$(touch owned) `touch owned` \x1b[2J 'END'"
    text = written(
        on("node2", complaints=f"{evil}: No such file or directory\n", reboot_required=evil),
        on("node3", python={"executable": evil, "packages": {"numpy": None}}),
    )
    said, _ = run(text, tmp_path)
    assert "touch" not in said and not (tmp_path / "owned").exists()
    assert "\x1b" not in text
    for line in text.partition("here() {")[2].splitlines()[4:]:
        assert "touch" not in line or line.startswith("#"), line


@pytest.mark.parametrize("name", ["-oProxyCommand=touch owned", "$(touch owned)", "a;touch owned", "a'b"])
def test_a_hostile_name_of_a_host_is_a_name(tmp_path: Path, name: str) -> None:
    remedy = shell("ssh HOST true", "echo HOST").at(name)
    cure = Cure(code="net.x", severity="fail", host=name, observed=name, expected="", remedy=remedy)
    inventory = parse("a slots=1\n", "h")
    named = msgspec.structs.replace(inventory.hosts[0], name=name)
    report = Report(findings=(), checks=(), hosts={}, cures=(cure,))
    text = script(report, msgspec.structs.replace(inventory, hosts=(named,)), "now")
    said, _ = run(text, tmp_path)
    assert said.startswith(f"== {name}\nssh -- {name} ")
    assert not (tmp_path / "owned").exists()


def test_bash_reads_the_script_of_every_fault(tmp_path: Path) -> None:
    for number, case in enumerate(FAULTS):
        text = script(judged(case), material(case).inventory, "2026-01-02T03:04:05Z")
        if text:
            (tmp_path / f"{number}.sh").write_text(text)
    scripts = sorted(map(str, tmp_path.glob("*.sh")))
    assert len(scripts) > 80
    check = 'for each in "$@"; do bash -n "$each" || exit 1; done'
    subprocess.run(["bash", "-c", check, "bash", *scripts], check=True)


def test_a_second_card_is_named_by_its_own_name() -> None:
    text = written(beside(node2=nic("eth1", "10.5.0.3", carrier=False)))
    assert "\nsudo ip addr flush dev eth1\n" in text

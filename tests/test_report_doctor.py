"""The report on a screen: golden pages at 80 and 120 columns, and what must hold on any page."""

from __future__ import annotations

import json
import os
import re
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from clusterctl.checks.evaluate import Report, evaluate
from clusterctl.facts.model import Facts, Reachability
from clusterctl.inventory.model import Inventory
from clusterctl.network.choose import choose
from clusterctl.network.model import Network
from clusterctl.report import doctor, doctor_json, findings
from clusterctl.transport.protocol import Failure
from tests.builders import cluster, inventory, mesh
from tests.test_checks_flows import measured
from tests.test_network_flows import flow

GOLDEN = Path(__file__).parent / "fixtures" / "doctor"
Case = tuple[Inventory, dict[str, Facts], Network, Report]


def judged(facts: dict[str, Facts], hosts: Inventory, reachability: Reachability, *failures: Failure) -> Case:
    network = choose(hosts, facts, reachability)
    return hosts, facts, network, evaluate(hosts, facts, failures, reachability, network)


def healthy_cpu() -> Case:
    facts = cluster(2)
    return judged(facts, inventory(facts, 2), mesh(facts))


def sick_gpus() -> Case:
    """One firewall, one other torch, one host down, in a cluster of five."""
    facts = cluster(4, gpus=4)
    python = facts["node2"].python
    older = msgspec.structs.replace(python, packages={**python.packages, "torch": "2.4.0"})
    facts["node2"] = msgspec.structs.replace(facts["node2"], python=older)
    open_paths = mesh(facts)
    dials = tuple(
        msgspec.structs.replace(dial, result="timeout", seconds=3.0)
        if dial.target == "node3" and dial.kind != "master"
        else dial
        for dial in open_paths.dials
    )
    down = Failure(
        host="node5",
        stage="connect",
        message="192.0.2.5 refuses the connection: the machine is up, but no sshd listens there",
        hint="start sshd on it",
    )
    return judged(
        facts, inventory([*facts, "node5"], 4), msgspec.structs.replace(open_paths, dials=dials), down
    )


CASES = {"healthy-cpu": healthy_cpu, "sick-gpus": sick_gpus}


def page(case: Case, width: int, *, color: bool = False, verbose: bool = False) -> str:
    screen = Console(
        file=StringIO(),
        width=width,
        force_terminal=color,
        color_system="truecolor" if color else None,
        legacy_windows=False,
    )
    screen.print(doctor.render(*case, width=width, verbose=verbose), crop=False)
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", CASES)
def test_golden_pages(name: str, width: int) -> None:
    """Set CLUSTERCTL_WRITE_GOLDEN=1 to write them anew, then read the difference."""
    golden = GOLDEN / f"{name}-{width}.txt"
    text = page(CASES[name](), width)
    if os.environ.get("CLUSTERCTL_WRITE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("width", [80, 120])
def test_only_commands_to_paste_and_the_verdict_exceed_the_width(width: int) -> None:
    lines = page(sick_gpus(), width).splitlines()
    wide = [line for line in lines if len(line) > width]
    assert all(line.split()[0] in ("fix", "or") for line in wide if line != lines[-1])


def test_the_last_line_says_what_to_type() -> None:
    assert page(healthy_cpu(), 80).splitlines()[-1] == "✓ 2 of 2 hosts ready: clusterctl launch"
    assert page(sick_gpus(), 80).splitlines()[-1].endswith("clusterctl launch --exclude node2@node3@node5")


def test_colour_adds_nothing_that_the_text_does_not_say() -> None:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", page(sick_gpus(), 120, color=True))
    assert "\n".join(line.rstrip() for line in plain.splitlines()) == page(sick_gpus(), 120).rstrip("\n")


def test_a_deviation_is_marked_and_a_common_value_is_not() -> None:
    text = page(sick_gpus(), 120)
    assert text.count("≠") == 1
    assert "≠ 2.4.0" in text


def test_a_thousand_hosts_fit_on_a_screen() -> None:
    facts = cluster(1024)
    for number in range(1, 1025, 2):
        facts[f"node{number}"] = msgspec.structs.replace(facts[f"node{number}"], clock_offset=99.0)
    case = judged(facts, inventory(facts), Reachability())
    assert len(page(case, 120).splitlines()) < 60
    equal = cluster(1024)
    lines = page(judged(equal, inventory(equal), Reachability()), 80).splitlines()
    assert len(lines) <= 20


def test_verbose_tells_what_was_skipped_and_why() -> None:
    text = page(healthy_cpu(), 120, verbose=True)
    assert "hosts need no SSH to one another (ssh.peer)" in text
    assert "no RDMA device on any host" in text
    assert "skipped" not in page(healthy_cpu(), 120)


def test_findings_of_others_are_rendered_alike() -> None:
    """A finding without hosts, as a linter makes them, has no host behind its code."""
    screen = Console(file=StringIO(), width=80)
    case = sick_gpus()
    bare = msgspec.structs.replace(case[3].findings[0], hosts=(), fix="")
    screen.print(findings.render([bare], hosts=1))
    assert screen.file.getvalue().splitlines()[0].rstrip() == f"✗ {bare.code}"  # type: ignore[attr-defined]


def test_the_json_has_the_promised_shape() -> None:
    document = json.loads(doctor_json.encode(*sick_gpus(), seconds=1.23456))
    assert document["schema"] == "clusterctl.doctor/1"
    assert document["verdict"] == "not-ready"
    assert document["seconds"] == 1.235
    assert list(document["hosts"]) == ["node1", "node2", "node3", "node4", "node5"]
    assert document["hosts"]["node1"].keys() == {"rank", "slots", "verdict", "facts"}
    assert document["hosts"]["node1"]["facts"]["hostname"] == "node1"
    assert document["hosts"]["node5"] == {"rank": 4, "slots": 4, "verdict": "not-ready", "facts": None}
    assert document["network"]["node1"].keys() == {"ifname", "address", "env"}
    fields = {"code", "severity", "hosts", "observed", "expected", "symptom", "fix"}
    assert all(finding.keys() == fields for finding in document["findings"])
    assert all(check.keys() == {"code", "status", "hosts", "reason"} for check in document["checks"])


def test_how_fast_data_got_through_is_told_for_each_host() -> None:
    facts = cluster(3)
    hosts = inventory(facts)
    slow = measured(facts, lambda source, target: flow(busy=1.6 if target == "node2" else 0.016))
    network = choose(hosts, facts, slow)
    report = evaluate(hosts, facts, (), slow, network)
    screen = Console(width=80, file=StringIO())
    screen.print(doctor.render(hosts, facts, network, report, width=80, verbose=True, reachability=slow))
    lines = [" ".join(line.split()) for line in screen.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert "traffic sent, at best received, at best lost" in lines
    assert "node[1,3] 524 Mbit/s 524 Mbit/s not looked for" in lines
    assert "node2 524 Mbit/s 5.2 Mbit/s not looked for" in lines
    told = json.loads(doctor_json.encode(hosts, facts, network, report, 1.0, reachability=slow))["traffic"]
    assert told["hosts"]["node2"]["receives"]["bits_per_second"] == pytest.approx(5242880)
    assert len(told["pairs"]) == 6
    assert told["pairs"][0] | {"bits_per_second": 0} == {
        "source": "node1",
        "target": "node2",
        "bits_per_second": 0,
        "round_trip": 0.0001,
        "sent_again": 0,
        "packets": 725,
    }

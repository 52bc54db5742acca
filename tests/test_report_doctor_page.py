"""Doctor's page and its JUnit XML: what is wrong stands on them, hostile words do nothing."""

from __future__ import annotations

from xml.etree import ElementTree

import msgspec

from clusterctl.checks.evaluate import evaluate
from clusterctl.facts.model import Dial, Facts, Reachability
from clusterctl.network.choose import choose
from clusterctl.report import junit
from clusterctl.report.html.doctor import doctor_page
from clusterctl.report.html.matrix import counted
from tests.builders import altered, cluster, inventory
from tests.test_report_run_page import Reader

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e\"'&"


def dial(source: str, target: str, result: str = "ok") -> Dial:
    return Dial(source=source, target=target, address="10.0.0.1", port=29500, kind="low", result=result)


def pages(facts: dict[str, Facts], reachability: Reachability | None = None) -> tuple[str, str]:
    hosts = inventory(facts, 1)
    network = choose(hosts, facts)
    reached = reachability or Reachability()
    report = evaluate(hosts, facts, network=network)
    page = doctor_page(
        hosts, facts, network, report, reached, how="the hostfile lab", launch="clusterctl launch"
    )
    return page, junit.encode(report, 1.5)


def test_a_healthy_cluster_is_ready_and_says_what_to_type() -> None:
    page, xml = pages(cluster(3))
    assert "3 of 3 hosts ready" in page and "<code>clusterctl launch</code>" in page
    root = ElementTree.fromstring(xml)
    assert not list(root.iter("failure")) and len(list(root.iter("testcase"))) > 100


def test_what_fails_is_on_the_page_and_a_failure_of_its_host() -> None:
    facts = altered(cluster(3), "node2", workdir_exists=False)
    python = msgspec.structs.replace(facts["node2"].python, packages={"torch": "2.1.0"})
    page, xml = pages(altered(facts, "node2", python=python))
    assert "What they do not have alike" in page and "2.1.0" in page
    root = ElementTree.fromstring(xml)
    failed = {case.attrib["name"] for case in root.iter("testcase") if case.find("failure") is not None}
    assert failed and all(name.endswith(" node2") or name.endswith(" cluster") for name in failed)
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(cases)
        assert int(suite.attrib["failures"]) == sum(case.find("failure") is not None for case in cases)


def test_it_says_how_many_are_ready_and_how_to_start_without_the_others() -> None:
    facts = altered(cluster(3), "node2", workdir_exists=False)
    python = msgspec.structs.replace(facts["node2"].python, packages={"torch": "2.1.0"})
    page, _ = pages(altered(facts, "node2", python=python))
    assert '<h1 class="bad">2 of 3 hosts ready</h1>' in page
    assert "launch without the other: <code>clusterctl launch --exclude node2</code>" in page


def test_each_pair_is_a_square_with_what_came_of_it() -> None:
    names = ["node1", "node2", "node3"]
    dials = [dial(a, b) for a in names for b in names if a != b and (a, b) != ("node3", "node1")]
    dials.append(dial("node1", "node2", "timeout"))
    dials.append(dial("node2", "node3", "unsettled"))
    assert counted(names, dials) == {"ok": 3, "bad": 1, "unknown": 1, "none": 1}
    page, _ = pages(cluster(3), Reachability(dials=tuple(dials), asked=True))
    assert "node1 to node2: timeout at port 29500" in page and "node3 to node1: not tried" in page


def test_hostile_words_do_nothing() -> None:
    facts = cluster(2)
    python = msgspec.structs.replace(facts["node2"].python, packages={"torch": HOSTILE}, version=HOSTILE)
    page, xml = pages(altered(facts, "node2", python=python))
    assert Reader(page).active == [] and "\x1b" not in page and "\u202e" not in page
    assert "\x1b" not in xml and ElementTree.fromstring(xml) is not None

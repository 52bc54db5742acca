"""What an activation line did, on its way into the run's settings and onto the screen."""

from __future__ import annotations

import msgspec
from rich.console import Console

from clusterctl.checks.evaluate import evaluate
from clusterctl.facts.model import Activation, Facts, Python
from clusterctl.network.choose import choose
from clusterctl.plan import activation
from clusterctl.plan.build import build
from clusterctl.plan.model import Code, LaunchPlan, Request, Setting
from clusterctl.report import launch as page
from tests.builders import cluster, healthy, inventory


def activated(number: int = 1, *, python: str = "/env/bin/python3", **changes: object) -> Facts:
    own = Python(executable=python, version="3.11.2")
    return healthy(number, python=own, activation=Activation(**changes))  # type: ignore[arg-type]


def test_every_variable_says_where_it_comes_from_and_python_ones_may_pass() -> None:
    facts = activated(variables={"PATH": "/env/bin:/usr/bin", "PYTHONPATH": "/extra"})
    assert activation.settings(facts, "profile lab.yaml: activate") == (
        Setting("PATH", "/env/bin:/usr/bin", "profile lab.yaml: activate"),
        Setting("PYTHONPATH", "/extra", "profile lab.yaml: activate"),
    )
    assert activation.settings(healthy(1), "") == ()


def test_tools_beside_a_named_interpreter_stay_on_the_path() -> None:
    facts = activated(python="/venv/bin/python", variables={"PATH": "/cuda/bin:/usr/bin"})
    assert activation.settings(facts, "profile lab.yaml: activate")[0].value == "/venv/bin:/cuda/bin:/usr/bin"


def plan(**more: object) -> LaunchPlan:
    facts = {"node1": activated(1, removed=("GONE", "BACK")), "node2": activated(2)}
    hosts = inventory(facts, 1)
    request = Request(
        run="r",
        start="torchrun",
        command=("{python}", "train.py"),
        code=Code(root="/here"),
        pythons=dict.fromkeys(facts, "/env/bin/python3"),
        removed={host: activation.removed(of_host) for host, of_host in facts.items()},
        **more,  # type: ignore[arg-type]
    )
    return build(hosts, choose(hosts, facts), request, master_port=29500)


def test_what_is_unset_stays_unset_unless_somebody_sets_it() -> None:
    nodes = plan(settings=(Setting("BACK", "1", "--env"),)).nodes
    assert [node.removed for node in nodes] == [("GONE",), ()]


def test_the_page_shows_what_is_unset_and_where_a_host_works() -> None:
    console = Console(width=200, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(page.plan_text(plan(workdirs={"node2": "/data/project"})))
    first, second = capture.get().split("node2  node rank 1")
    assert "unset GONE" in first and "unset" not in second
    assert "in /data/project instead of /here" in second


def test_a_failed_line_fails_its_host_and_is_told_once() -> None:
    facts = cluster(3)
    broken = activated(2, error="ended with exit code 127: condo: command not found")
    lost = Python(error="the activation line failed")
    facts["node2"] = msgspec.structs.replace(broken, python=lost)
    report = evaluate(inventory(facts), facts)
    failed = [finding for finding in report.findings if finding.severity == "fail"]
    assert [(finding.code, finding.hosts) for finding in failed] == [("env.activate", ("node2",))]
    assert "condo: command not found" in failed[0].observed
    assert report.hosts["node2"] == "not-ready"

"""What is said before a run starts."""

from __future__ import annotations

import msgspec
from rich.console import Console

from clusterctl.report import launch as page
from tests.builders import cluster


def test_hosts_without_a_package_are_named_with_their_interpreter() -> None:
    facts = cluster(3)
    assert page.lacking("torch", facts) is None
    for host in ("node1", "node3"):
        python = msgspec.structs.replace(facts[host].python, packages={"torch": "2.13.0"}, executable="/py")
        facts[host] = msgspec.structs.replace(facts[host], python=python)
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(page.lacking("deepspeed", facts))
    assert capture.get().splitlines() == [
        "not started: no deepspeed on node[1,3] for /py",
        "hint: /py -m pip install deepspeed there, or `python: /another/python` in a profile",
    ]

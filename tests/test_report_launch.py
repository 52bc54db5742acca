"""What is said before a run starts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from clusterctl.checks.evaluate import evaluate
from clusterctl.network.choose import choose
from clusterctl.network.model import Setting
from clusterctl.plan.model import Code
from clusterctl.report import ending
from clusterctl.report import launch as page
from clusterctl.store.outcome import Cause, Outcome
from tests.builders import cluster, inventory
from tests.test_run_machine import plan as small_plan


def test_what_travels_is_said_before_the_start() -> None:
    code = Code(
        root="/home/a/repo",
        subdirectory="src/exp",
        digest="d",
        files=42,
        size=1_234_567,
        notes=("pipe is not sent",),
    )
    plan = msgspec.structs.replace(small_plan(2), code=msgspec.structs.replace(code, repository=True))
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(page.opening(plan, Path("/runs/x")))
    assert (
        "code    42 files, 1.2 MB from /home/a/repo (git root), run in src/exp\n        pipe is not sent\n"
        in capture.get()
    )


def test_the_run_that_holds_the_slots_is_the_one_to_stop() -> None:
    cause = Cause(kind="preflight", message="slot 0 is busy", host="h0", holder="20260101-120000-bbbb")
    outcome = Outcome(run="20260101-130000-aaaa", status="refused", exit_code=120, cause=cause)
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(ending.closing(small_plan(1), outcome, Path("/runs/x")))
    assert "hint: clusterctl stop 20260101-120000-bbbb ends that run" in capture.get()


@pytest.mark.parametrize(
    ("setting", "offered"),
    [
        (Setting("MASTER_ADDR", "127.0.0.1", "--master-addr"), False),
        (Setting("GLOO_SOCKET_IFNAME", "x", "--env"), True),
    ],
)
def test_no_host_is_to_be_left_out_for_an_address_that_all_were_given(
    setting: Setting, offered: bool
) -> None:
    facts = cluster(2)
    settings = {"node1": (setting,)}
    hosts = inventory(facts, 1)
    network = choose(hosts, facts, settings=settings)
    seen = evaluate(hosts, facts, network=network, settings=settings)
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(page.refusal(seen, network, hosts))
    assert ("--exclude node1" in capture.get()) is offered

"""What each engine can do, held against the table in the docs. What ranks find is held by the launches on
hosts: `test_uneven_hosts_are_one_world_whoever_starts_it`."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import pytest

from clusterctl.engines import deepspeed
from clusterctl.engines.command import node_argv
from clusterctl.errors import UsageError
from clusterctl.plan.model import LaunchPlan, Start
from clusterctl.session import launch
from clusterctl.session.options import LaunchOptions
from tests import engine_table
from tests.engine_table import STARTS
from tests.test_run_machine import plan as small_plan

TABLE = engine_table.read()
ON_HOSTS = {
    "different slots on each host",
    "rank and devices",
    "--local_rank=N for the script",
    "variables of its own",
}
"""Rows that runs on hosts hold."""
CHOICE = {"needs on this machine", "on a loopback sandbox"}
"""Rows that `test_which_way_deepspeed_goes` holds."""


def plan(start: Start) -> LaunchPlan:
    """Hosts of which the second uses other slots than its first."""
    found = small_plan(2)
    nodes = (found.nodes[0], msgspec.structs.replace(found.nodes[1], slots=(1, 3), ranks=(1, 2)))
    return msgspec.structs.replace(
        found, start=start, nodes=nodes, world_size=3, command=("{python}", "-u", "my script.py")
    )


def command(start: Start) -> tuple[str, ...]:
    whole = plan(start)
    argv = node_argv(whole, whole.nodes[1])
    return argv if argv is not None else deepspeed.pdsh_argv(whole, "HOSTFILE")


def program(start: Start) -> str:
    if start == "deepspeed-pdsh":
        return "deepspeed.launcher.launch"
    argv = command(start)
    return argv[2] + (" --no_ssh" if "--no_ssh" in argv else "")


def needs_on_hosts(start: Start) -> str:
    modules = {
        part.partition(".")[0] for part in (program(start), *command(start)) if re.match(r"\w+\.\w+\.", part)
    }
    return "torch" + ", deepspeed" * ("deepspeed" in modules)


def own_ssh(start: Start) -> str:
    return "one to each host" if any(part == "--launcher=pdsh" for part in command(start)) else "no"


def other_slots(start: Start) -> str:
    words = command(start)
    by_include = any(part.startswith("--include=") and "h1:1,3" in part for part in words)
    return "yes" if by_include or "--nproc-per-node=2" in words else "no"


def carries_the_script(start: Start) -> str:
    return "yes" if any("my script.py" in part for part in command(start)) else "no"


ROWS: dict[str, Callable[[Start], str]] = {
    "starts on a host": program,
    "needs on the hosts": needs_on_hosts,
    "ssh of its own": own_ssh,
    "slots that are not the first ones": other_slots,
    "your script on its command line": carries_the_script,
}


def test_every_row_is_held_by_a_test() -> None:
    assert TABLE.keys() == ROWS.keys() | ON_HOSTS | CHOICE


@pytest.mark.parametrize("row", ROWS)
def test_a_row_says_what_the_code_does(row: str) -> None:
    assert TABLE[row] == {start: ROWS[row](start) for start in STARTS}  # type: ignore[arg-type]


def test_which_way_deepspeed_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over pdsh where all that this needs is here, and its hosts are real ones."""
    needed = TABLE["needs on this machine"]["deepspeed-pdsh"].split(", ")
    assert [TABLE["needs on this machine"][start] for start in STARTS if start != "deepspeed-pdsh"] == [
        "-",
        "-",
    ]
    ways = [(frozenset(needed), False, "deepspeed-pdsh"), (frozenset(needed), True, "deepspeed-no-ssh")]
    ways += [(frozenset(needed) - {each}, False, "deepspeed-no-ssh") for each in needed]
    for there, simulated, wanted in ways:
        monkeypatch.setattr("shutil.which", lambda name, there=there: name if name in there else None)
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda name, there=there: name if name in there else None
        )
        options = LaunchOptions(engine="deepspeed")
        assert launch._start(LaunchOptions(), simulated=simulated) == "torchrun"
        assert launch._start(options, simulated=simulated) == wanted
        assert not simulated or TABLE["on a loopback sandbox"][wanted] == "yes"
        if wanted == "deepspeed-no-ssh":
            with pytest.raises(UsageError, match="--launcher pdsh: "):
                launch._start(msgspec.structs.replace(options, pdsh=True), simulated=simulated)
    assert TABLE["on a loopback sandbox"]["deepspeed-pdsh"] == "no"

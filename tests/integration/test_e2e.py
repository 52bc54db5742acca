"""A real all-reduce over real hosts: who is named when it does not end well, and what is left of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import msgspec
import pytest

from clusterctl.ask.facts import CollectedFacts, FactsRequest, ask
from clusterctl.checks.evaluate import Report, evaluate
from clusterctl.facts.model import Facts, Reachability
from clusterctl.inventory.hostfile import parse
from clusterctl.inventory.model import Inventory
from clusterctl.network.choose import choose
from clusterctl.node.e2e.child import BOOT
from clusterctl.plan.group import Group, Trials, one_rank_a_host
from clusterctl.sandbox import HostSpec, Sandbox
from clusterctl.sandbox.host import VirtualHost
from clusterctl.session.examine import _variables as variables_of_a_run
from clusterctl.transport import connect
from tests.busy import all_cores_busy
from tests.integration.launching import nothing_left
from tests.integration.test_doctor_sandbox import doctor, problems

pytestmark = pytest.mark.sandbox

MakeSandbox = Callable[..., Sandbox]
Meddle = Callable[[Group], Group]


def examined(
    box: Sandbox,
    meddle: Meddle,
    *,
    mesh: bool = True,
    thorough: bool = False,
    devices: dict[str, tuple[str, ...]] | None = None,
) -> tuple[CollectedFacts, Report]:
    """``meddle`` comes between the examination and the all-reduce."""
    inventory = parse(box.hostfile.read_text(encoding="utf-8"), str(box.hostfile))

    def arrange(facts: Mapping[str, Facts], reachability: Reachability) -> Trials:
        network = choose(inventory, facts, reachability)
        variables = variables_of_a_run(inventory, facts, network, dict.fromkeys(facts, ()))
        group = meddle(one_rank_a_host(inventory, facts, reachability, network, variables))
        addresses = {entry.host: entry.address for entry in network.hosts}
        return Trials(
            gloo=group,
            addresses=addresses,
            thorough=thorough,
            devices=devices or {},
            backend="gloo",
        )

    transport = connect("fabric", box.ssh_config)
    try:
        answers = ask(transport, inventory, FactsRequest(mesh=mesh), arrange=arrange)
    finally:
        transport.close()
    return answers, judged(inventory, answers)


def judged(inventory: Inventory, answers: CollectedFacts) -> Report:
    network = choose(inventory, answers.facts, answers.reachability)
    failures = tuple(answers.failures.values())
    return evaluate(inventory, answers.facts, failures, answers.reachability, network, proof=answers.proof)


def told(report: Report) -> dict[str, tuple[tuple[str, ...], str]]:
    return {each.severity: (each.hosts, each.observed) for each in report.findings if each.code == "e2e.gloo"}


def ranks_of(host: VirtualHost) -> list[int]:
    """Processes of the training interpreter that an examination has on this host."""
    found = []
    for pid in host.pids():
        try:
            argv = (host.root / "proc" / str(pid) / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if BOOT.encode() in argv:
            found.append(pid)
    return found


def test_a_wrong_interface_on_one_host_is_named_in_plain_words(sandbox: Sandbox) -> None:
    def meddle(group: Group) -> Group:
        own = group.members[2].variables
        wrong = msgspec.structs.replace(own, env={**own.env, "GLOO_SOCKET_IFNAME": "eth9"})
        odd = msgspec.structs.replace(group.members[2], variables=wrong)
        return msgspec.structs.replace(group, members=(*group.members[:2], odd, *group.members[3:]))

    with nothing_left(sandbox):
        answers, report = examined(sandbox, meddle)
    assert told(report)["fail"][0] == ("node3",)
    assert "no interface of the name eth9" in told(report)["fail"][1]
    assert answers.proof.gloo is not None
    assert answers.proof.gloo.master_port == answers.reachability.master_port


def test_a_rank_that_was_stopped_is_unknown_and_no_other_host_is_blamed(sandbox: Sandbox) -> None:
    def meddle(group: Group) -> Group:
        host = sandbox.host("node2")
        (pid,) = ranks_of(host)
        host.admin(["kill", "-STOP", str(pid)])
        return group

    with nothing_left(sandbox):
        _, report = examined(sandbox, meddle, mesh=False)
    assert list(told(report)) == ["unknown"]
    assert told(report)["unknown"][0] == ("node2",)
    assert "stopped by a signal" in told(report)["unknown"][1]
    assert report.hosts["node3"] == "ready"


@pytest.mark.long
def test_a_path_between_two_other_hosts_that_drops_everything_is_named(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=[HostSpec(name) for name in "abcd"])

    def meddle(group: Group) -> Group:
        for one, other in (("b", "d"), ("d", "b")):
            box.host(one).block("in", "drop", peer=box.host(other).address())
        return group

    with nothing_left(box):
        _, report = examined(box, meddle, mesh=False)
    assert told(report)["fail"][0] == ("b", "d")
    assert "without an answer" in told(report)["fail"][1]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["drop", "reset"])
def test_a_host_that_does_not_reach_the_store_is_named(make_sandbox: MakeSandbox, kind: str) -> None:
    box = make_sandbox(hosts=[HostSpec(name) for name in "abc"])

    def meddle(group: Group) -> Group:
        box.host("c").block("out", kind, (1024, 65535), peer=box.host("a").address())  # type: ignore[arg-type]
        return group

    _, report = examined(box, meddle, mesh=False)
    assert told(report)["fail"][0] == ("c",)


@pytest.mark.long
def test_without_torch_on_rank_0_the_others_are_proven(make_sandbox: MakeSandbox) -> None:
    import importlib.util

    found = importlib.util.find_spec("torch")
    assert found is not None and found.origin is not None
    box = make_sandbox(hosts=[HostSpec(name) for name in "abc"])
    box.host("a").install(found.origin, "raise ImportError('libx.so.1: no such file')\n")
    code, report = doctor(box)
    assert (code, problems(report)) == (1, {"sw.torch-import": {"a"}})
    status = {
        host: each["status"]
        for each in report["checks"]
        if each["code"] == "e2e.gloo"
        for host in each["hosts"]
    }
    assert status == {"a": "unknown", "b": "pass", "c": "pass"}


@pytest.mark.long
def test_a_busy_machine_fools_nobody(sandbox: Sandbox) -> None:
    with all_cores_busy():
        _, report = examined(sandbox, lambda group: group, mesh=False)
    assert "fail" not in told(report)


@pytest.mark.long
def test_a_host_whose_link_carries_less_is_named(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=[HostSpec(name) for name in "abc"])
    box.host("b").limit_bandwidth("eth0", "50mbit")
    with nothing_left(box):
        _, report = examined(box, lambda group: group, mesh=False, thorough=True)
    found = {
        each.severity: (each.hosts, each.observed) for each in report.findings if each.code == "e2e.tcp-bw"
    }
    assert found["fail"][0] == ("b",)
    told = re.search(r"receives (0\.\d+) Gbit/s", found["fail"][1])
    assert told and 0.025 < float(told[1]) < 0.06, found["fail"][1]
    assert "TCP carries" in found["info"][1]


@pytest.mark.long
def test_what_idle_gpus_are_asked_works_on_cores_too(make_sandbox: MakeSandbox) -> None:
    """The way is the same: a process for each device, all together, then two hosts at a time."""
    box = make_sandbox(hosts=[HostSpec(name) for name in "abc"])
    devices = {"a": ("cpu", "cpu"), "b": ("cpu",), "c": ("cpu",)}
    with nothing_left(box):
        answers, report = examined(box, lambda group: group, mesh=False, thorough=True, devices=devices)
    proof = answers.proof
    assert [(each.host, each.stage, each.error, each.ended, each.unknown) for each in proof.devices] == [
        (host, "right", "", "", "") for host in "aabc"
    ]
    assert all(each.flops > 0 for each in proof.devices)
    assert proof.nccl is not None
    assert [(rank.host, rank.rank, rank.done) for rank in proof.nccl.ranks] == [
        (host, rank, True) for rank, host in enumerate("aabc")
    ]
    assert all(len(rank.times) == 2 for rank in proof.nccl.ranks)
    assert [[rank.host for rank in pair.ranks] for pair in proof.pairs] == [list("aab"), list("aac")]
    assert all(rank.done for pair in proof.pairs for rank in pair.ranks)
    assert "fail" not in told(report)


def test_nothing_is_left_when_the_controller_is_killed(sandbox: Sandbox) -> None:
    with nothing_left(sandbox):
        environment = {**os.environ, "CLUSTERCTL_SSH_CONFIG": str(sandbox.ssh_config)}
        running = subprocess.Popen(
            [sys.executable, "-m", "clusterctl", "doctor", str(sandbox.hostfile)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        limit = time.monotonic() + 120
        while not all(ranks_of(host) for host in sandbox.hosts) and time.monotonic() < limit:
            time.sleep(0.05)
        assert running.poll() is None
        running.send_signal(signal.SIGKILL)
        running.wait()

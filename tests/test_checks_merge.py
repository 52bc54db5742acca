"""What could not be read is unknown, one cause is one finding, and rules may be left out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clusterctl.checks.evaluate import evaluate
from clusterctl.checks.families import RULES
from clusterctl.checks.rule import Evidence, Hit, Rule
from clusterctl.checks.selection import Selection, read
from clusterctl.errors import UsageError
from clusterctl.facts.gpu import GpuProcess
from clusterctl.facts.model import Facts, Name, NcclPick
from clusterctl.facts.sections import Section, unread
from clusterctl.network.choose import choose
from clusterctl.transport.protocol import Failure
from tests.builders import GIB, cluster, healthy, inventory, nic
from tests.fact_sets import Alteration, Case, above_a_note, beside, card, disk, judged, on

Word = Callable[[str, dict[str, Facts]], Alteration]
PARTS: tuple[Section, ...] = tuple(dict.fromkeys(part for rule in RULES for part in rule.needs))


@pytest.mark.parametrize("part", PARTS)
def test_a_host_is_unknown_in_every_rule_that_needs_what_it_could_not_tell(part: Section) -> None:
    found = judged(Case(name=part, alter=(on("node2", errors=(f"{part}: hung",)),), gpus=2))
    needing = {rule.code for rule in RULES if part in rule.needs}
    unknown = {check.code for check in found.checks if check.status == "unknown" and "node2" in check.hosts}
    assert needing <= unknown
    assert above_a_note(found) == {"env.facts": "node2"}
    assert found.hosts == {"node1": "ready", "node2": "unknown", "node3": "ready"}
    others = {check.status for check in found.checks if "node1" in check.hosts}
    assert "unknown" not in others


def test_a_field_of_the_wrong_shape_stands_for_its_part() -> None:
    facts = on("a", errors=("limits: expected object", "nonsense: x", "disks: no answer"))({"a": healthy(1)})
    assert unread(facts["a"]) == {"system": "expected object", "disks": "no answer"}


def test_where_nobody_could_tell_nothing_is_skipped_or_passed() -> None:
    found = judged(Case(name="all", alter=(on("*", errors=("gpus: hung",)),), gpus=2))
    (check,) = [each for each in found.checks if each.code == "gpu.busy"]
    assert (check.status, len(check.hosts)) == ("unknown", 3)


def test_64_names_that_no_resolver_knows_are_one_finding() -> None:
    names = [f"n{number:03}" for number in range(64)]
    failures = tuple(
        Failure(
            host=name,
            stage="resolve",
            message=f"no address is known for the name '{name}'",
            hint=f"correct the name, or add `Host {name}`",
        )
        for name in names
    )
    report = evaluate(inventory(names), {}, failures)
    (finding,) = [each for each in report.findings if each.code == "ssh.reach"]
    assert finding.hosts == tuple(names)
    assert finding.observed == "no address is known for the name 'n000' (alike on 63 other hosts)"


def test_a_job_on_8_gpus_of_64_hosts_is_one_finding() -> None:
    facts = cluster(64, gpus=8)
    for number, host in enumerate(facts):
        for index in range(8):
            left = (GpuProcess(4000 + 8 * number + index, 70 * GIB, "bob", f"python train.py {index}"),)
            facts = card(host, (index,), processes=left)(facts)
    hosts = inventory(facts, 8)
    report = evaluate(hosts, facts, network=choose(hosts, facts))
    (finding,) = [each for each in report.findings if each.severity != "info"]
    assert (finding.code, len(finding.hosts)) == ("gpu.busy", 64)
    assert finding.observed.startswith("GPUs 0-7: pid 4000, 4001")


def test_two_jobs_are_two_findings() -> None:
    bob = card("node1", (0,), processes=(GpuProcess(1, 9 * GIB, "bob", "python a.py"),))
    eve = card("node2", (0,), processes=(GpuProcess(2, 9 * GIB, "eve", "python b.py"),))
    found = judged(Case(name="two", alter=(bob, eve), gpus=1))
    assert [each.hosts for each in found.findings if each.severity != "info"] == [("node1",), ("node2",)]


def test_up_to_three_texts_of_one_cause_stand_side_by_side() -> None:
    def judge(evidence: Evidence) -> list[Hit]:
        return [Hit(hosts=(host,), observed=f"{host} is odd", cause="odd") for host in evidence.facts]

    rule = Rule(code="x.y", severity="warn", looks_at="", judge=judge, fix="ssh HOST true")
    facts = cluster(3)
    (finding,) = evaluate(inventory(facts), facts, rules=(rule,)).findings
    assert finding.observed == "node1: node1 is odd; node2: node2 is odd; node3: node3 is odd"
    assert finding.fix == "ssh node1 true"


def test_rules_are_chosen_by_code_and_family() -> None:
    assert read(["gpu,net.mtu"]).left_out("gpu.ecc") == ""
    assert read(["gpu,net.mtu"]).left_out("net.mtu") == ""
    assert read(["gpu"]).left_out("net.mtu") == "not asked for (--only)"
    assert read([], ["os.reboot=next week"]).left_out("os.reboot") == "next week (--skip)"
    assert read([], ["os.reboot=next week"]).left_out("os.oom") == ""


@pytest.mark.parametrize(
    ("only", "skip"), [(["gpu.sim"], []), (["gpux"], []), ([], ["os.reboot"]), ([], ["os.rebot=x"])]
)
def test_a_code_that_does_not_exist_is_wrong_usage(only: list[str], skip: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        read(only, skip)
    assert caught.value.hint


def test_what_is_skipped_is_told_with_its_reason_and_stops_nobody() -> None:
    facts = on("node2", reboot_required="libc6 upgraded", clock_offset=None)(cluster(3))
    hosts = inventory(facts)
    selection = Selection(skip={"os.reboot": "on Sunday", "time": "no clock here"})
    found = evaluate(hosts, facts, network=choose(hosts, facts), selection=selection)
    assert above_a_note(found) == {}
    assert found.verdict == "ready"
    (told,) = [each for each in found.checks if each.code == "os.reboot"]
    assert (told.status, told.reason, told.hosts) == ("skip", "on Sunday (--skip)", hosts.names)


@pytest.mark.parametrize(
    "alter",
    [
        lambda host, facts: on(host, noise=f"Welcome to {host}\n"),
        lambda host, facts: on(host, nccl=NcclPick(address=f"172.17.{host[4:]}.1")),
        lambda host, facts: on(host, names=(Name(facts[host].hostname, ()),)),
        lambda host, facts: on(host, stale_shm=(f"/dev/shm/nccl-{host}",)),
        lambda host, facts: card(host, (0,), ecc_errors=int(host[4:])),
        lambda host, facts: on(host, memory_available=int(host[4:]) << 20),
        lambda host, facts: beside(**{host: nic("eth1", f"10.5.0.{host[4:]}", carrier=False)}),
        lambda host, facts: disk(host, "tmp", free=int(host[4:]) << 20),
    ],
)
def test_what_every_host_words_otherwise_is_one_finding(alter: Word) -> None:
    facts = cluster(64, gpus=1)
    usual = evaluate(inventory(facts), facts, network=choose(inventory(facts), facts))
    for host in tuple(facts):
        facts = alter(host, facts)(facts)
    found = evaluate(inventory(facts), facts, network=choose(inventory(facts), facts))
    (finding,) = [each for each in found.findings if each not in usual.findings]
    assert len(finding.hosts) == 64

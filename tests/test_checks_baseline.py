"""What has changed since the baseline is told of the host that changed; what every boot changes is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from clusterctl.errors import UsageError
from clusterctl.facts.lasting import Baseline
from clusterctl.facts.model import Address, Python
from clusterctl.session import baseline
from clusterctl.session.examine import judged
from tests.builders import GIB, gpu, nic
from tests.fact_sets import Alteration, Case, beside, card, disk, link, material, on, variable


def before(case: Case, path: Path) -> Baseline:
    """As it comes back from a file."""
    path.write_text(baseline.text(baseline.taken_from(judged(material(case)))))
    return baseline.read(path)


def drift(path: Path, then: Case, *alter: Alteration) -> dict[str, list[tuple[str, str]]]:
    """Code -> (hosts, text) of what is told when ``then`` has been altered."""
    kept = before(then, path)
    now = msgspec.structs.replace(then, alter=(*then.alter, *alter))
    found: dict[str, list[tuple[str, str]]] = {}
    for finding in judged(material(now), baseline=kept).report.findings:
        if finding.code.startswith("baseline."):
            found.setdefault(finding.code, []).append((" ".join(finding.hosts), finding.observed))
    return found


GPUS = Case(name="gpus", gpus=8)
PLAIN = Case(name="plain", traffic=True)
CARDS = tuple(gpu(index) for index in range(8))

DRIFTS: tuple[tuple[str, Case, Alteration, str, str], ...] = (
    (
        "driver",
        GPUS,
        on("node3", nvidia={"kernel_driver": "535.161"}),
        "baseline.software",
        "driver 550.54.15 -> 535.161",
    ),
    (
        "torch",
        PLAIN,
        on("node3", python={"packages": {"torch": "2.4.0"}}),
        "baseline.software",
        "torch 2.5.1 -> 2.4.0",
    ),
    (
        "a package gone",
        PLAIN,
        on("node3", python={"packages": {"numpy": None}}),
        "baseline.software",
        "numpy 1.26.4 -> none",
    ),
    (
        "a new package",
        PLAIN,
        on("node3", python={"packages": {"vllm": "1"}}),
        "baseline.software",
        "vllm none -> 1",
    ),
    ("kernel", PLAIN, on("node3", kernel="6.8.0"), "baseline.machine", "kernel 6.1.0-18-amd64 -> 6.8.0"),
    (
        "memory",
        PLAIN,
        on("node3", memory_total=32 * GIB),
        "baseline.machine",
        "memory 64.0 GiB -> 32.0 GiB",
    ),
    ("cores", PLAIN, on("node3", cpus=8), "baseline.machine", "cores 16 -> 8"),
    (
        "two cards",
        GPUS,
        lambda facts: on(
            "node3", nvidia={"gpus": tuple(each for each in facts["node3"].nvidia.gpus[:6]), "devices": 6}
        )(facts),
        "baseline.gpus",
        "2 of 8 GPUs are gone (NVIDIA A100-SXM4-80GB)",
    ),
    (
        "a mode of some cards",
        GPUS,
        card("node3", (1, 2), compute_mode="Exclusive_Process"),
        "baseline.gpus",
        "compute mode Default -> Exclusive_Process on 2 of 8 GPUs",
    ),
    ("speed", PLAIN, link("node3", speed=100), "baseline.network", "eth0 speed 10 Gb/s -> 100 Mb/s"),
    ("MTU", PLAIN, link("node3", mtu=9000), "baseline.network", "eth0 MTU 1500 -> 9000"),
    ("a new card", PLAIN, beside(node3=nic("eno9", "10.9.0.3")), "baseline.network", "eno9 is new"),
    (
        "open files",
        PLAIN,
        on("node3", limits={"nofile": 1024}),
        "baseline.limits",
        "open files 1048576 -> 1024",
    ),
    (
        "memlock",
        PLAIN,
        on("node3", limits={"memlock": 65536}),
        "baseline.limits",
        "locked memory unlimited -> 65536",
    ),
    (
        "a mount",
        PLAIN,
        disk("node3", "tmp", noexec=True),
        "baseline.limits",
        "/tmp mounted writable -> writable, noexec",
    ),
    (
        "a setting",
        PLAIN,
        variable("node3", "NCCL_DEBUG", "INFO"),
        "baseline.limits",
        "NCCL_DEBUG none -> INFO",
    ),
)


@pytest.mark.parametrize(("name", "then", "alter", "code", "text"), DRIFTS, ids=[each[0] for each in DRIFTS])
def test_what_changed_is_told_of_its_host(
    tmp_path: Path, name: str, then: Case, alter: Alteration, code: str, text: str
) -> None:
    assert drift(tmp_path / "good.json", then, alter) == {code: [("node3", text)]}


EVERY_BOOT: tuple[Alteration, ...] = (
    on("*", boot_id="another", load=9.0, memory_available=GIB, connections=(9, 65536)),
    on("*", memory_total=64 * GIB - 40 * 1024**2, clock_offset=1.0, stale_shm=("/dev/shm/nccl-x",)),
    link("*", index=77, carrier_changes=9, errors=4),
    disk("*", "root", free=GIB, inodes_free_percent=3.0),
    card("*", range(8), memory_used=70 * GIB, utilization=99, throttle=4),
    beside(node1=nic("docker0", "172.17.0.1", kind="bridge", prefix=16)),
    on("*", path="/elsewhere", ssh_peer="10.0.0.9", seconds=7.0),
)


@pytest.mark.parametrize("alter", EVERY_BOOT)
def test_what_comes_and_goes_is_no_drift(tmp_path: Path, alter: Alteration) -> None:
    assert drift(tmp_path / "good.json", GPUS, alter) == {}


def unread(what: str) -> Alteration:
    return on("node2", errors=(f"{what}: no answer within 10 s",))


UNKNOWN: tuple[tuple[str, Alteration], ...] = (
    *(
        (what, unread(what))
        for what in ("system", "gpus", "python", "interfaces", "disks", "settings", "rdma")
    ),
    ("nvidia-smi fails", on("node2", nvidia={"exit_code": 9, "gpus": (), "kernel_driver": ""})),
    ("nvidia-smi hangs", on("node2", nvidia={"exit_code": None, "gpus": ()})),
    ("no python", on("node2", python=Python(error="/opt/venv/bin/python does not exist"))),
    ("no speed told", link("node2", speed=None)),
    ("no limit of power told", card("node2", range(8), power_limit=None, pcie_width=None)),
)


@pytest.mark.parametrize(("name", "alter"), UNKNOWN, ids=[name for name, _ in UNKNOWN])
def test_what_cannot_be_read_now_is_unknown_and_no_drift(
    tmp_path: Path, name: str, alter: Alteration
) -> None:
    full = msgspec.structs.replace(GPUS, alter=(card("*", range(8), power_limit=400.0),))
    assert drift(tmp_path / "good.json", full, alter) == {}


def test_a_part_that_was_told_and_is_not_is_said_to_be_unknown(tmp_path: Path) -> None:
    kept = before(GPUS, tmp_path / "good.json")
    now = judged(material(Case(name="now", gpus=8, alter=(unread("gpus"),))), baseline=kept)
    told = {
        check.status
        for check in now.report.checks
        if check.code == "baseline.gpus" and "node2" in check.hosts
    }
    assert told == {"unknown"}


def test_one_change_of_many_hosts_is_one_finding(tmp_path: Path) -> None:
    case = Case(name="many", hosts=12, gpus=1)
    upgraded = on("node2 node3 node4 node5", kernel="6.8.0", nvidia={"kernel_driver": "560.1"})
    also = on("node5", cpus=8)
    assert drift(tmp_path / "good.json", case, upgraded, also) == {
        "baseline.machine": [
            ("node2 node3 node4 node5", "kernel 6.1.0-18-amd64 -> 6.8.0"),
            ("node5", "cores 16 -> 8"),
        ],
        "baseline.software": [("node2 node3 node4 node5", "driver 550.54.15 -> 560.1")],
    }


def test_addresses_that_all_changed_are_one_finding(tmp_path: Path) -> None:
    def moved(facts: dict[str, object]) -> object:
        for number in (1, 2, 3):
            facts = link(  # type: ignore[assignment]
                f"node{number}", addresses=(Address("inet", f"10.0.7.{number}", 16),)
            )(facts)  # type: ignore[arg-type]
        return facts

    found = drift(tmp_path / "good.json", Case(name="plain"), moved)["baseline.network"]  # type: ignore[arg-type]
    assert [hosts for hosts, _ in found] == ["node1 node2 node3"] * 2


def test_new_and_missing_hosts_are_told(tmp_path: Path) -> None:
    kept = before(Case(name="three"), tmp_path / "good.json")
    grown = judged(material(Case(name="four", hosts=4)), baseline=kept).report
    assert [(each.hosts, each.severity) for each in grown.findings if each.code == "baseline.hosts"] == [
        (("node4",), "info")
    ]
    told = {each.status for each in grown.checks if each.code == "baseline.gpus" and "node4" in each.hosts}
    assert told == {"unknown"}, "not compared is not passed"
    shrunk = judged(material(Case(name="two", hosts=2)), baseline=kept).report
    (note,) = [each for each in shrunk.findings if each.code == "baseline.hosts"]
    assert note.observed == "in the baseline, but not examined now: node3"
    assert shrunk.verdict == "ready"


def test_without_one_the_family_is_skipped() -> None:
    checks = judged(material(PLAIN)).report.checks
    assert {each.status for each in checks if each.code.startswith("baseline.")} == {"skip"}


def test_the_same_cluster_again_has_not_changed(tmp_path: Path) -> None:
    for case in (PLAIN, GPUS, Case(name="quick", quick=True)):
        assert drift(tmp_path / "good.json", case) == {}


def test_one_value_is_one_line_and_secrets_are_not_in_it(tmp_path: Path) -> None:
    secret = "hf_abcdefghijklmnopqrstuvwx"
    case = Case(name="secrets", alter=(variable("*", "MY_TOKEN", secret), variable("*", "NCCL_X", secret)))
    path = tmp_path / "good.json"
    kept = before(case, path)
    assert secret not in path.read_text()
    assert '        "torch": "2.5.1",\n' in path.read_text()
    assert '        "tokenizers": "0.20.3",\n' in path.read_text(), "no secret, whatever its name"
    assert kept.hosts["node1"].settings == {"MY_TOKEN": None, "NCCL_X": None}
    assert drift(path, case) == {}


def _cut(text: str) -> str:
    return text[: len(text) // 2]


def _changed(change: Callable[[dict[str, object]], object]) -> Callable[[str], str]:
    def alter(text: str) -> str:
        document = json.loads(text)
        change(document)
        return json.dumps(document, indent=2)

    return alter


WRONG: tuple[tuple[str, Callable[[str], str], str], ...] = (
    ("cut off", _cut, "line "),
    ("empty", lambda _: "", "it is not complete JSON"),
    ("no JSON", lambda _: "hosts: yes", ""),
    ("binary", lambda _: "\x00\x01", ""),
    ("another JSON", lambda _: '{"a": 1}', "schema is missing"),
    ("a list", lambda _: "[]", "not a group of fields"),
    ("deep", lambda _: '{"schema": "clusterctl.baseline/1", "hosts": ' + "[" * 100_000, ""),
    (
        "a capture",
        _changed(lambda document: document.update(schema="clusterctl.capture/1")),
        "its schema is 'clusterctl.capture/1', not clusterctl.baseline/1",
    ),
    (
        "newer",
        _changed(lambda document: document.update(schema="clusterctl.baseline/2")),
        "this version reads clusterctl.baseline/1",
    ),
    ("no hosts", _changed(lambda document: document.update(hosts={})), "hosts: it names none"),
    ("no hosts key", _changed(lambda document: document.pop("hosts")), "hosts is missing"),
    (
        "a number",
        _changed(lambda document: document["hosts"]["node2"]["machine"].update(cores=8)),  # type: ignore[index]
        "line 96: hosts.node2.machine.cores is a whole number, not text or empty",
    ),
)


@pytest.mark.parametrize(("name", "spoil", "said"), WRONG, ids=[name for name, _, _ in WRONG])
def test_a_file_that_is_no_baseline_is_told_with_its_name(
    tmp_path: Path, name: str, spoil: Callable[[str], str], said: str
) -> None:
    path = tmp_path / "good.json"
    before(PLAIN, path)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(UsageError) as wrong:
        baseline.read(path)
    assert str(path) in wrong.value.message and said in wrong.value.message
    assert wrong.value.hint and wrong.value.exit_code == 64


def test_a_place_without_a_file_is_told_too(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match=str(path)):
            baseline.read(path)

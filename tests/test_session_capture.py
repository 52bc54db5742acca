"""A report made again from a folder is the same report, and the folder holds no secret."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from clusterctl.cli import doctor
from clusterctl.errors import UsageError
from clusterctl.facts.gpu import GpuProcess
from clusterctl.facts.model import Activation, Dial, Variable
from clusterctl.inventory.hostfile import parse
from clusterctl.network.model import Setting
from clusterctl.plan.profile import Profile, decode
from clusterctl.report import doctor_json
from clusterctl.session import capture
from clusterctl.session.cluster import Cluster
from clusterctl.session.examine import Examination, judged
from clusterctl.session.material import Invocation, Material
from clusterctl.session.replay import read, replay
from clusterctl.transport.protocol import Failure
from tests.builders import altered, healthy
from tests.conftest import AnsweringHosts
from tests.fact_sets import Case, material
from tests.faults.facts_odd import ODD
from tests.faults.facts_single import FAULTS
from tests.test_cli_main import call

LOST = Failure(host="node3", stage="auth", message="no key fits", hint="ssh-copy-id node3", seconds=1.0)
PLAIN = Case(name="plain", traffic=True)
ONE_LOST = Case(name="one lost", traffic=True, failures=(LOST,))


def as_json(seen: Examination) -> str:
    answers = seen.answers
    return doctor_json.encode(
        seen.material.inventory, answers.facts, seen.network, seen.report, answers.seconds
    )


def every_byte(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("case", [*ODD, *FAULTS, PLAIN, ONE_LOST], ids=lambda case: case.name)
def test_the_report_is_the_same_again(case: Case, tmp_path: Path) -> None:
    live = judged(material(case))
    live.capture(tmp_path / "kept")
    again = replay(tmp_path / "kept")
    assert again.report == live.report
    assert again.network == live.network
    assert json.loads(as_json(again)) == json.loads(as_json(live))  # 60 is 60.0


def test_what_is_kept_is_what_was_heard(tmp_path: Path) -> None:
    heard = msgspec.structs.replace(
        material(ONE_LOST),
        profile=decode(
            'python: /opt/venv/bin/python\nexpect: {torch: ">=2.4,<2.5"}\nnetwork: {subnet: 10.0.0.0/16}\n'
            "hosts:\n  node2: {python: ~/venv/bin/python, workdir: /data/x}\n",
            "lab.yaml",
        ),
        simulated=True,
        invocation=Invocation(
            how="hosts: hostfile (3 hosts)", hostfile="lab", reach=(("--profile", "lab.yaml"),)
        ),
    )
    capture.write(heard, tmp_path / "kept")
    assert read(tmp_path / "kept") == heard
    assert any(finding.code == "sw.torch" for finding in replay(tmp_path / "kept").report.findings)


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir(mode=0o755)
    capture.write(material(PLAIN), folder)
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(UsageError, match="not empty"):
        capture.write(material(PLAIN), tmp_path)
    with pytest.raises(UsageError, match="Not a directory"):
        capture.check(tmp_path / "mine")
    with pytest.raises(UsageError, match="there is no folder"):
        capture.check(tmp_path / "nowhere" / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


SECRETS = (
    "tok-from-env-1", "tok-from-env-2", "tok-from-line", "tok-of-profile", 'pa"ss\\word', "proxy-pass",
    "s3cret-in-file", "hf_abcdefghijklmnopqrstuvwx", "in-the-argv", "MIIEowIBAAKCAQEA", "tok-in-hook",
    "beside-the-dial", "pw-in-ssh",
)  # fmt: skip


def with_secrets() -> Material:
    plain = material(PLAIN)
    facts = altered(
        plain.answers.facts,
        "node1",
        variables=(Variable("HF_TOKEN", "tok-from-env-1", "environment"),),
        activation=Activation(variables={"WANDB_API_KEY": "tok-from-line", "A": "x tok-from-line y"}),
        complaints="bashrc: export MY_SECRET='s3cret-in-file': cannot\nhf_abcdefghijklmnopqrstuvwx",
        noise="-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----\n",
    )
    process = GpuProcess(pid=1, memory=1, user="bob", command="python x.py --hub-token in-the-argv")
    smi = msgspec.structs.replace(
        healthy(2, gpus=1).nvidia,
        gpus=tuple(
            msgspec.structs.replace(each, processes=(process,)) for each in healthy(2, gpus=1).nvidia.gpus
        ),
    )
    facts = altered(facts, "node2", nvidia=smi, variables=(Variable("HF_TOKEN", "tok-from-env-2", "x"),))
    dial = Dial(
        source="node1", target="node2", address="10.0.0.3", port=1, kind="low", result="foreign",
        answered="Authorization: Bearer beside-the-dial",
    )  # fmt: skip
    reached = plain.answers.reachability
    proxy = "http://bob:proxy-pass@proxy:3128"
    return msgspec.structs.replace(
        plain,
        answers=msgspec.structs.replace(
            plain.answers,
            facts=facts,
            reachability=msgspec.structs.replace(reached, dials=(*reached.dials, dial)),
        ),
        settings={
            "node1": (Setting("https_proxy", proxy, "--env"), Setting("DB_PASSWORD", 'pa"ss\\word', "--env")),
            "node2": (Setting("NCCL_DEBUG", "WARN", "--env"),),
        },
        profile=Profile(
            activate="export HOOK_TOKEN=tok-in-hook; true", env={"HF_TOKEN": "tok-of-profile", "A": "b"}
        ),
        invocation=Invocation(
            reach=(("--env", f"http_proxy={proxy}"), ("--env-file", "sftp://me:pw-in-ssh@h/"))
        ),
    )


def test_no_secret_is_in_any_byte(tmp_path: Path) -> None:
    capture.write(with_secrets(), tmp_path / "kept")
    kept = every_byte(tmp_path / "kept")
    for secret in SECRETS:
        assert secret.encode() not in kept and msgspec.json.encode(secret)[1:-1] not in kept, secret
    for harmless in (b"WARN", b"proxy:3128", b"python x.py", b"2.5.1", b"tokenizers", b"0.20.3"):
        assert harmless in kept
    assert replay(tmp_path / "kept").answers.facts.keys() == {"node1", "node2", "node3"}


def test_hidden_values_differ_where_the_values_did(tmp_path: Path) -> None:
    capture.write(with_secrets(), tmp_path / "kept")
    facts = read(tmp_path / "kept").answers.facts
    assert facts["node1"].variables[0].value != facts["node2"].variables[0].value


def edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = next(folder.glob(name))
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return edit


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: next(folder.glob(name)).unlink()


def replaced(name: str, content: bytes) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return replace


def doubled(folder: Path) -> None:
    path = next(folder.glob("hosts/0000*"))
    path.with_name("0009-copy.json").write_bytes(path.read_bytes())


def line_of(folder: Path, name: str, text: str) -> int:
    lines = next(folder.glob(name)).read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


DAMAGE = [
    (removed("capture.json"), "it has no capture.json"),
    (replaced("capture.json", b"[]"), "capture.json: it is a list, not a group of fields"),
    (replaced("capture.json", b'{\n"schema": "clusterctl.doctor/1"}'), "its schema is 'clusterctl.doctor/1'"),
    (replaced("capture.json", b'{\n\n"schema": x}'), "capture.json line 3: it is not complete JSON"),
    (edited("capture.json", '"quick": false', '"quick": 7'), "quick is a whole number, not true or false"),
    (replaced("capture.json", b"[" * 100_000), "capture.json"),
    (replaced("hostfile.json", b"\xff\xfe\x00"), "hostfile.json line 1"),
    (replaced("hostfile.json", b'["x"]'), "hostfile.json"),
    (edited("hostfile.json", '"node2"', '"node1"'), "a host is named twice"),
    (removed("hosts/0001*"), "hosts: no file tells of 'node2'"),
    (edited("hosts/0001*", '"node2"', '"node9"'), "'node9' is no host of hostfile.json"),
    (edited("hosts/0001*", '"failure": null', '"failure": 3'), "failure is"),
    (edited("hosts/0000*", '"prefix": 16', '"prefix": 99'), "hosts/0000-node1.json"),
    (edited("hosts/0000*", '"facts": {', '"facts": null, "x": {'), "it needs either facts or a failure"),
    (doubled, "another file tells of 'node1', too"),
    (replaced("profile.yaml", b"network: {subnet: 10.0.0}\n"), "profile.yaml line 1, network.subnet"),
    (replaced("profile.yaml", b"\xff"), "it is not UTF-8 text"),
    (removed("traffic.json"), "traffic.json: the file is missing"),
    (edited("traffic.json", '"listen_errors": {}', '"listen_errors": {"z": "y"}'), "'z' is no host of"),
    (edited("dials.jsonl", '"source":"node1"', '"source":"mars"'), "dials.jsonl line 1: 'mars' is no host"),
    (edited("dials.jsonl", '"address":"10', '"address":"x'), "dials.jsonl line 1: 'x."),
    (replaced("dials.jsonl", b'{"source": \n'), "dials.jsonl line 1"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), DAMAGE, ids=[said for _, said in DAMAGE])
def test_a_damaged_folder_is_told_with_its_file(
    damage: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    capture.write(material(PLAIN), folder)
    damage(folder)
    with pytest.raises(UsageError) as caught:
        replay(folder)
    assert said in caught.value.message and str(folder) in caught.value.message
    assert caught.value.hint


def test_a_wrong_value_is_told_with_its_line(tmp_path: Path) -> None:
    capture.write(material(PLAIN), tmp_path / "kept")
    edited("hosts/0001*", '"index": 2', '"index": "two"')(tmp_path / "kept")
    line = line_of(tmp_path / "kept", "hosts/0001*", '"two"')
    with pytest.raises(
        UsageError, match=rf"0001-node2.json line {line}: .*index is text, not a whole number"
    ):
        replay(tmp_path / "kept")


def test_a_pipe_and_a_folder_that_is_none_hold_nobody_up(tmp_path: Path) -> None:
    import os

    capture.write(material(PLAIN), tmp_path / "kept")
    (tmp_path / "kept/hostfile.json").unlink()
    os.mkfifo(tmp_path / "kept/hostfile.json")
    with pytest.raises(UsageError, match="not a regular file"):
        replay(tmp_path / "kept")
    with pytest.raises(UsageError, match="there is no such folder"):
        replay(tmp_path / "nowhere")


def shown(capsys: pytest.CaptureFixture[str], **options: object) -> tuple[int, list[str]]:
    code = doctor.command(**options)  # type: ignore[arg-type]
    return code, capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("options", [{}, {"strict": True}, {"verbose": True}, {"as_json": True}])
def test_the_page_and_the_exit_code_are_the_same_again(
    options: dict[str, object], answering_hosts: AnsweringHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    answering_hosts.facts = altered(answering_hosts.facts, "node2", stale_shm=("nccl-x",), kernel="5.4.0")
    live = shown(capsys, capture="kept", env=["NCCL_DEBUG=INFO"], nodes=2, **options)
    Path("hostfile").unlink()
    again = shown(capsys, replay="kept", **options)
    assert again[0] == live[0]
    head = 0 if "as_json" in options else 1
    assert again[1][head:] == live[1][head:]
    assert len(answering_hosts.requests) == 1


def test_other_rules_may_be_asked_of_it(
    answering_hosts: AnsweringHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    answering_hosts.facts = altered(
        answering_hosts.facts, "node2", workdir_exists=None, errors=("gpus: late",)
    )
    assert shown(capsys, capture="kept")[0] == 2
    assert shown(capsys, replay="kept", only=["ssh"])[0] == 0


def test_ready_hosts_make_a_hostfile(
    answering_hosts: AnsweringHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    answering_hosts.facts = altered(
        answering_hosts.facts, "node2", errors=("gpus: late\x1b[2J\nnode9 slots=1",)
    )
    shown(capsys, hostfile_out="good")
    text = Path("good").read_text()
    first, second, *entries = text.splitlines()
    assert first.startswith("# clusterctl doctor, 20") and first.endswith(
        ": 1 of 2 hosts of hostfile are ready"
    )
    assert second.startswith("# left out: node2: ") and "late" in second and "\x1b" not in text
    assert entries == ["node1 slots=1"]
    assert Cluster.from_hostfile("good").names == ("node1",)
    with pytest.raises(UsageError, match="good exists"):
        shown(capsys, hostfile_out="good")
    assert len(answering_hosts.requests) == 1
    del answering_hosts.facts["node2"]
    shown(capsys, hostfile_out="good", force=True, include="node1")
    assert "1 of 1 hosts" in Path("good").read_text()


def test_slots_of_a_hostfile_are_those_that_were_given(
    answering_hosts: AnsweringHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("hostfile").write_text("node1 slots=4\nnode2 slots=3\n")
    shown(capsys, hostfile_out="good", include="node1:1,3@node2")
    inventory = parse(Path("good").read_text(), "good")
    assert [host.declared_slots for host in inventory.hosts] == [4, 3]
    assert not inventory.warnings
    assert "-i node1:1,3" in Path("good").read_text()


def test_no_hostfile_without_a_ready_host(
    answering_hosts: AnsweringHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    for host in ("node1", "node2"):
        answering_hosts.facts = altered(answering_hosts.facts, host, errors=("gpus: late",))
    assert doctor.command(hostfile_out="good") == 2
    assert "no host is ready" in capsys.readouterr().err
    assert not Path("good").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--replay", "nowhere"), "there is no such folder"),
        (("--replay", "."), "it has no capture.json"),
        (("--replay", ".", "--quick"), "--quick is of no use with --replay"),
        (("--replay", ".", "hostfile"), "HOSTFILE is of no use with --replay"),
        (("--force",), "--force is of use where a file is written"),
        (("--replay", ""), "--replay was given an empty text"),
        (("--capture", "."), "the folder is not empty"),
        (("--hostfile-out", "hostfile"), "hostfile exists"),
        (("--hostfile-out", "no/where"), "there is no folder no"),
    ],
)
def test_what_cannot_be_meant_is_said_before_a_host_is_asked(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = call(tmp_path, "doctor", *words)
    assert done.returncode == 64
    assert said in done.stderr and "hint:" in done.stderr and "Traceback" not in done.stderr
    assert not done.stdout


def test_a_replay_needs_no_hostfile(tmp_path: Path) -> None:
    live = judged(material(ONE_LOST))
    live.capture(tmp_path / "kept")
    done = call(tmp_path / "kept", "doctor", "--replay", ".", "--json")
    assert (done.returncode, done.stderr) == (live.report.exit_code(), "")
    assert done.stdout.rstrip("\n") == as_json(live)

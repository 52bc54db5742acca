"""`doctor --fix` and `--apply` as they are typed: what is refused, what is asked, what is done and told."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from clusterctl.checks.finding import Cure
from clusterctl.checks.remedy import safe
from clusterctl.checks.safe import CloseKey, MakeDirectory, SetAside
from clusterctl.cli import cure as cli
from clusterctl.cli.doctor import command
from clusterctl.session import apply, target
from clusterctl.session.examine import judged
from clusterctl.session.material import Invocation
from clusterctl.transport.protocol import Channel
from tests.bare_transport import BareTransport
from tests.conftest import AnsweringHosts
from tests.fact_sets import Case, disk, link, material
from tests.local_channel import LocalChannel
from tests.test_cli_main import call


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """What hosts said of whom one has another MTU."""
    folder = tmp_path / "kept"
    judged(material(Case(name="mtu", alter=(link("node2", mtu=9000),)))).capture(
        folder, Invocation(how="hosts: x", hostfile="lab", ssh_config="/a/config")
    )
    return folder


def test_the_script_alone_is_on_stdout(tmp_path: Path, kept: Path) -> None:
    done = call(tmp_path, "doctor", "--replay", str(kept), "--fix")
    assert done.returncode == 0
    assert done.stdout.startswith("#!/usr/bin/env bash\n") and done.stdout.endswith("\nEND\n")
    assert "\nsudo ip link set dev eth0 mtu 1500\n" in done.stdout and "ssh -F /a/config" in done.stdout
    assert done.stderr.startswith("✓ 3 of 3 hosts ready with 1 warning: clusterctl launch -H lab")
    subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True)


def test_the_script_in_a_file_is_beside_the_page(tmp_path: Path, kept: Path) -> None:
    done = call(tmp_path, "doctor", "--replay", str(kept), "--fix-out", "fix.sh")
    assert "! net.mtu  node2" in done.stdout
    assert done.stderr == "wrote fix.sh: read it, then: bash fix.sh\n"
    assert (tmp_path / "fix.sh").read_text().startswith("#!")
    again = call(tmp_path, "doctor", "--replay", str(kept), "--fix-out", "fix.sh")
    assert again.returncode == 64 and "fix.sh exists" in again.stderr
    assert call(tmp_path, "doctor", "--replay", str(kept), "--fix-out", "fix.sh", "--force").returncode == 0


def test_where_nothing_is_to_cure_nothing_is_written(tmp_path: Path) -> None:
    judged(material(Case(name="well"))).capture(tmp_path / "well")
    done = call(tmp_path, "doctor", "--replay", "well", "--fix", "--fix-out", "fix.sh")
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing to cure: ✓ 3 of 3 hosts ready" in done.stderr
    assert not (tmp_path / "fix.sh").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--apply",), "--apply asks before it does anything, and here is no terminal"),
        (("--yes",), "--yes is of use with --apply only"),
        (("--apply", "--yes", "--replay", "kept"), "--apply is of no use with --replay"),
        (("--apply", "--yes", "--fix"), "--apply is of no use with --fix"),
        (("--apply", "--yes", "--json"), "--json and --apply both want stdout"),
        (("--fix", "--json"), "--json and --fix both want stdout"),
        (("--fix-out", "no/where"), "there is no folder no"),
        (("--baseline", "hostfile"), "hostfile line 1"),
        (("--baseline", "nowhere"), "nowhere: the file is missing"),
        (("--save-baseline", "hostfile"), "hostfile exists"),
        (("--save-baseline", ""), "--save-baseline was given an empty text"),
    ],
)
def test_what_cannot_be_meant_is_said_before_a_host_is_asked(
    words: tuple[str, ...], said: str, tmp_path: Path, kept: Path
) -> None:
    done = call(tmp_path, "doctor", *words)
    assert done.returncode == 64
    assert said in done.stderr and "hint:" in done.stderr and "Traceback" not in done.stderr


def test_a_baseline_is_saved_and_compared_with(tmp_path: Path, kept: Path) -> None:
    judged(material(Case(name="well"))).capture(tmp_path / "well")
    saved = call(tmp_path, "doctor", "--replay", "well", "--save-baseline", "good.json")
    assert saved.returncode == 0
    assert saved.stderr == (
        "wrote good.json: the state of 3 of 3 hosts; next: clusterctl doctor --baseline good.json\n"
    )
    again = call(tmp_path, "doctor", "--replay", "kept", "--baseline", "good.json")
    assert "! baseline.network  node2\n    found     eth0 MTU 1500 -> 9000\n" in again.stdout
    assert call(tmp_path, "doctor", "--replay", "well", "--baseline", "good.json").stdout.count("✓") == 4


def test_a_cluster_that_is_not_ready_is_no_good_state_unsaid(tmp_path: Path) -> None:
    sick = Case(name="sick", alter=(disk("node2", "shm", free=1024),))
    judged(material(sick)).capture(tmp_path / "sick")
    done = call(tmp_path, "doctor", "--replay", "sick", "--save-baseline", "good.json")
    assert done.returncode == 1
    assert "warning: the cluster is not ready: good.json will take it for good as it is" in done.stderr


class LocalHosts(BareTransport):
    """Each host is a home directory of this machine."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.open_channels: list[LocalChannel] = []

    def open(self, host: str, command: str, deadline: float) -> Channel:
        self.open_channels.append(LocalChannel(self.home, host))
        return self.open_channels[-1]


@pytest.fixture
def without_tmpdir(answering_hosts: AnsweringHosts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """node2's TMPDIR is missing until somebody makes it."""
    missing = tmp_path / "a b" / "scratch"
    monkeypatch.setattr(target, "connect", lambda *_: LocalHosts(tmp_path))
    healthy, ask = answering_hosts.facts, answering_hosts.ask

    def told(*args: object, **more: object) -> object:
        broken = disk("node2", "tmp", path=str(missing), exists=missing.is_dir())
        answering_hosts.facts = broken(healthy)
        return ask(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("clusterctl.session.examine.ask", told)
    return missing


def test_what_is_safe_is_done_and_looked_at_again(
    without_tmpdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(quick=True, apply=True, yes=True) == 0
    told = capsys.readouterr()
    assert without_tmpdir.is_dir() and stat.S_IMODE(without_tmpdir.stat().st_mode) == 0o700
    assert f"  node2: mkdir -p -m 700 '{without_tmpdir}'  (os.write)\n" in told.err
    assert told.err.endswith("✓ cured: os.write of node2\n")
    assert told.out.splitlines()[-1].startswith("✓ 2 of 2 hosts ready: clusterctl launch")


def test_what_cannot_be_done_is_said(without_tmpdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without_tmpdir.parent.write_text("a file is in the way")
    assert command(quick=True, apply=True, yes=True) == 0
    told = capsys.readouterr()
    assert "✗ not cured: os.write of node2: mkdir: cannot create directory" in told.err
    assert "ready with 1 warning" in told.out.splitlines()[-1]


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "nein\n", "yess\n"])
def test_without_a_yes_nothing_is_done(
    without_tmpdir: Path, answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "check", lambda **_: None)
    monkeypatch.setattr(sys.stdin, "readline", lambda: answer, raising=False)
    assert command(quick=True, apply=True) == 0
    assert not without_tmpdir.exists()
    assert "do it? [y/N] nothing was done\n" in capsys.readouterr().err


def test_on_a_terminal_it_asks(tmp_path: Path, kept: Path) -> None:
    """A terminal is no reason to refuse; without hosts to ask it ends at the first of them."""
    primary, secondary = pty.openpty()
    try:
        (tmp_path / "hostfile").write_text("nowhere.invalid slots=1\n")
        done = subprocess.run(
            [sys.executable, "-m", "clusterctl", "doctor", "--quick", "--apply"],
            cwd=tmp_path,
            env={**os.environ, "CLUSTERCTL_HOME": str(tmp_path / "home"), "TERM": "dumb"},
            stdin=secondary,
            stdout=subprocess.PIPE,
            stderr=secondary,
            check=False,
        )
    finally:
        os.close(secondary)
    said = os.read(primary, 65536).decode()
    os.close(primary)
    assert done.returncode == 1
    assert "nothing of it is safe to be done for you" in said


def test_a_key_that_others_may_read_is_closed_and_nothing_else(tmp_path: Path) -> None:
    key, other = tmp_path / "id", tmp_path / "link"
    key.write_text("key")
    key.chmod(0o644)
    other.symlink_to(key)
    before = time.time_ns()

    def done(action: CloseKey) -> str:
        step = apply.Step(action=action, code="ssh.auth", hosts=("a", "b"))
        closed = apply.apply(_NoTarget(), [step])  # type: ignore[arg-type]
        assert [each.host for each in closed] == ["a", "b"]
        return closed[0].problem

    assert "link" in done(CloseKey(str(other)))
    assert stat.S_IMODE(key.stat().st_mode) == 0o644
    assert done(CloseKey(str(key))) == ""
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.stat().st_mtime_ns < before and key.read_text() == "key"
    assert "no file of yours" in done(CloseKey(str(tmp_path)))
    assert "No such file" in done(CloseKey(str(tmp_path / "none")))


class _NoTarget:
    def connect(self) -> LocalHosts:
        return LocalHosts(Path("/"))


def test_only_what_is_of_a_safe_type_is_a_step() -> None:
    """Nothing else of a report is ever run."""
    sick = Case(name="sick", alter=(link("node2", mtu=9000), disk("node3", "tmp", exists=False, path="/x/y")))
    report = judged(material(sick)).report
    assert {cure.code for cure in report.cures} == {"net.mtu", "os.write"}
    (step,) = apply.steps(report)
    assert (step.action, step.hosts) == (MakeDirectory("/x/y"), ("node3",))


def test_one_thing_on_many_hosts_is_one_step() -> None:
    cures = tuple(
        Cure(
            code="sw.x",
            severity="warn",
            host=host,
            observed="",
            expected="",
            remedy=safe(SetAside("/home/a/f")),
        )
        for host in ("a", "b")
    )
    report = msgspec.structs.replace(judged(material(Case(name="well"))).report, cures=cures)
    (step,) = apply.steps(report)
    assert step.hosts == ("a", "b") and step.action.words == ("mv", "-n", "/home/a/f", "/home/a/f.old")

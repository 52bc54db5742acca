"""Every command of docs/coming-from.md, as a user would paste it, on hosts with the names of that page."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.cli.app import app
from clusterctl.errors import ClusterctlError
from clusterctl.sandbox import HostSpec, Sandbox

pytestmark = pytest.mark.sandbox
PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"
ROW = re.compile(r"^\| .*\| `(clusterctl launch [^`]+)` \|$", re.MULTILINE)
COMMANDS = ROW.findall(PAGE.read_text())


@pytest.fixture(scope="module")
def lab(namespaces: None) -> Iterator[Sandbox]:
    with Sandbox.create("coming", [HostSpec("gpu1", slots=2), HostSpec("gpu2", slots=2)]) as box:
        yield box


@pytest.fixture
def project(lab: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLUSTERCTL_SSH_CONFIG", str(lab.ssh_config))
    (tmp_path / "hostfile").write_text(Path(lab.hostfile).read_text())
    for name in ("train.py", "ds.json", "run.sh", "pkg/train.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def plan_of(command: str, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    _, verb, *words = shlex.split(command)
    code = app([verb, "--dry-run", "--json", *words], prog_name="clusterctl", standalone_mode=False)
    said = capsys.readouterr()
    assert not code, (command, said.err)
    found: dict[str, object] = json.loads(said.out)
    return found


def test_the_page_has_its_commands() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_plans_a_run(
    lab: Sandbox, project: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    if "--launcher pdsh" in command and not shutil.which("pdsh"):
        pytest.skip("no pdsh here")
    there = command.replace("10.0.0.1", lab.host("gpu1").address()).replace("/opt/venv", sys.prefix)
    plan = plan_of(there.replace("2222", "22"), capsys)
    assert plan["arguments"] == shlex.split(re.split(r"(?:train\.py|pkg\.train|run\.sh)", there)[1])
    assert plan["start"] == "torchrun" or "deepspeed" in command or "pdsh" in command


def test_what_the_page_shows_as_refused_is(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.search(r"```\n\$ (clusterctl .*)\n(error: .*)\n(hint: .*)\n```", PAGE.read_text())
    assert shown is not None
    with pytest.raises(ClusterctlError) as caught:
        app(shlex.split(shown[1])[1:], prog_name="clusterctl", standalone_mode=False)
    assert (f"error: {caught.value.message}", f"hint: {caught.value.hint}") == (shown[2], shown[3])
    assert caught.value.exit_code == 64
    capsys.readouterr()
    plan_of(shown[3].removeprefix("hint: "), capsys)

"""A profile's activation lines on real hosts: what they change is in the run, what breaks is a finding."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.sandbox import HostSpec, Sandbox, VirtualHost
from tests.faults.real import clusterctl
from tests.integration.launching import PATIENCE, Launch, launch
from tests.integration.standin import make_standin
from tests.integration.test_doctor_sandbox import doctor, observed, problems

pytestmark = pytest.mark.sandbox

CONDA = """
echo "welcome to the cluster"; echo "licence expires soon" >&2
export CONDA_SHLVL=0
conda() {
  if [ "$2" != train ]; then
    echo "EnvironmentNameNotFound: Could not find conda environment: $2" >&2
    echo "You can list all discoverable environments with conda info --envs" >&2
    return 1
  fi
  echo "activating $2"
  export CONDA_PREFIX=$HOME/miniconda3/envs/train CONDA_SHLVL=1
  export PATH=$CONDA_PREFIX/bin:$PATH PYTHONPATH=$HOME/extra LD_LIBRARY_PATH=$CONDA_PREFIX/lib
  export MINE=activation WEAK=activation HUB_TOKEN=hunter2
  unset CROSSED
}
"""
TELL = """
import json, os, sys
import extra
print(json.dumps(dict(os.environ, python=sys.executable, extra=extra.NAME, cwd=os.getcwd())))
"""
PROFILE = """
activate: conda activate train
env: {MINE: profile}
hosts:
  plain:
    activate: source ~/venv/bin/activate
"""


def install_environment(prefix: Path) -> None:
    """An environment at ``prefix`` with the packages of the one that runs these tests."""
    running = Path(sys.executable).parent.parent
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin/python3").symlink_to(Path(sys.executable).resolve())
    (prefix / "lib").symlink_to(running / "lib")
    (prefix / "pyvenv.cfg").write_text((running / "pyvenv.cfg").read_text())


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def lab(namespaces: None) -> Iterator[Sandbox]:
    """One host with a conda of sorts at a usual place, one with a venv; no start-up file knows of them."""
    with Sandbox.create("lab", [HostSpec("conda"), HostSpec("plain")]) as box:
        conda, plain = box.hosts
        install_environment(conda.home / "miniconda3/envs/train")
        write(conda.home / "miniconda3/etc/profile.d/conda.sh", CONDA)
        write(conda.home / ".bashrc", "export CROSSED=yes\n")
        install_environment(plain.home / "venv")
        write(
            plain.home / "venv/bin/activate",
            "PATH=$HOME/venv/bin:$PATH\nexport PYTHONPATH=~/extra WHERE=venv\n",
        )
        for host in box.hosts:
            write(host.home / "extra/extra.py", f"NAME = {host.name!r}\n")
        yield box


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path / "project/tell.py", TELL)
    write(tmp_path / "lab.yaml", PROFILE)
    return tmp_path / "project"


def told(found: Launch, host: str, rank: int) -> dict[str, str]:
    value: dict[str, str] = json.loads(found.log(host, rank).splitlines()[-1])
    return value


def home(host: VirtualHost) -> str:
    return host.environment()["HOME"]


def test_a_run_has_what_the_line_changed_on_each_host(lab: Sandbox, project: Path) -> None:
    options = ["--profile", "../lab.yaml", "--env", "WEAK=user"]
    found = launch(lab, "tell.py", cwd=project, options=options)
    assert found.code == 0, found.text
    conda, plain = told(found, "conda", 0), told(found, "plain", 1)
    prefix = f"{home(lab.host('conda'))}/miniconda3/envs/train"
    assert conda["python"] == f"{prefix}/bin/python3"
    assert conda["PATH"].startswith(f"{prefix}/bin:")
    assert conda["CONDA_PREFIX"] == prefix
    assert conda["LD_LIBRARY_PATH"] == f"{prefix}/lib"
    assert conda["extra"] == "conda", "PYTHONPATH of the line reaches the script"
    assert (conda["MINE"], conda["WEAK"]) == ("profile", "user"), "what the user sets is stronger"
    assert "CROSSED" not in conda, "what the line unsets is gone"
    assert conda["HUB_TOKEN"] == "hunter2"
    assert plain["python"] == f"{home(lab.host('plain'))}/venv/bin/python3"
    assert (plain["WHERE"], plain["extra"]) == ("venv", "plain")
    assert "CONDA_PREFIX" not in plain
    assert "hunter2" not in (found.run / "plan.json").read_text()


def test_a_dry_run_says_what_comes_from_the_line(lab: Sandbox, project: Path) -> None:
    found = launch(lab, "tell.py", cwd=project, options=["--profile", "../lab.yaml", "--dry-run"])
    assert found.code == 0, found.text
    by_name = {line.split("=")[0].strip(): line for line in found.text.splitlines() if "=" in line}
    assert by_name["WHERE"].split() == ["WHERE=venv", "profile", "../lab.yaml:", "activate"]
    assert by_name["HUB_TOKEN"].split()[0] == "HUB_TOKEN='(hidden)'"
    assert by_name["MINE"].split() == ["MINE=profile", "profile", "../lab.yaml"]
    assert "  unset CROSSED" in found.text
    assert not {"SHLVL", "_", "PWD", "OLDPWD"} & by_name.keys()


def test_doctor_asks_the_activated_python(lab: Sandbox, project: Path) -> None:
    code, report = doctor(lab, "--profile", str(project.parent / "lab.yaml"))
    assert (code, problems(report)) == (0, {})
    facts = report["hosts"]["conda"]["facts"]
    assert facts["python"]["executable"].endswith("/miniconda3/envs/train/bin/python3")
    assert facts["python"]["requested"] == "python3 of the activated PATH"
    assert facts["torch"]["ok"]
    assert facts["activation"]["variables"]["HUB_TOKEN"] == "(hidden)"


def test_env_prints_the_difference(lab: Sandbox, project: Path) -> None:
    profile = str(project.parent / "lab.yaml")
    done = clusterctl(lab, "env", "conda", "-H", str(lab.hostfile), "--profile", profile)
    assert done.returncode == 0, done.stderr
    script = f'{done.stdout}\nprintf "%s|%s|%s" "$CONDA_PREFIX" "${{CROSSED-gone}}" "$NODE_RANK"'
    run = lab.host("conda").run(["sh", "-c", script], env={"CROSSED": "yes"})
    assert run.stdout == f"{home(lab.host('conda'))}/miniconda3/envs/train|gone|0"


BROKEN = """
hosts:
  node2: {activate: "export A=1; condo activate train"}
  node3: {activate: "echo starting >&2; : s3cr3t-of-the-line; sleep 613"}
  node4: {activate: "source ~/nowhere/bin/activate", python: "PYTHON"}
"""


def test_a_line_that_breaks_is_a_finding_for_its_host_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    profile = tmp_path / "broken.yaml"
    profile.write_text(BROKEN.replace("PYTHON", sys.executable))
    code, report = doctor(sandbox, "--quick", "--profile", str(profile))
    assert code == 1
    assert problems(report) == {"env.activate": {"node2", "node3", "node4"}}
    said = {f["hosts"][0]: f["observed"] for f in report["findings"] if f["code"] == "env.activate"}
    assert said == {
        "node2": "activation line: ended with exit code 127: condo: command not found",
        "node3": "activation line: did not end within 30 s: starting",
        "node4": "activation line: ended with exit code 1: "
        f"{home(sandbox.host('node4'))}/nowhere/bin/activate: No such file or directory",
    }
    assert report["hosts"]["node1"]["verdict"] == "ready"
    assert report["hosts"]["node4"]["facts"]["python"]["version"], "its python is named, so it is known"
    assert_ends(sandbox.host("node3"), b"sleep\x00613")


def test_no_process_shows_the_line(sandbox: Sandbox, tmp_path: Path) -> None:
    profile = tmp_path / "slow.yaml"
    profile.write_text('hosts: {node1: {activate: ": s3cr3t-of-the-line; sleep 617"}}')
    argv = [sys.executable, "-m", "clusterctl", "doctor", str(sandbox.hostfile), "--quick", "--profile"]
    with subprocess.Popen(
        [*argv, str(profile)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as asking:
        until = time.monotonic() + PATIENCE
        while not any(b"sleep\x00617" in each for each in command_lines(sandbox.host("node1"))):
            assert time.monotonic() < until
            time.sleep(0.1)
        there = command_lines(sandbox.host("node1"))
        here = [path.read_bytes() for path in Path("/proc").glob(f"{asking.pid}/task/*/cmdline")]
        assert not any(b"s3cr3t" in each for each in [*there, *here])
        asking.terminate()
    assert_ends(sandbox.host("node1"), b"sleep\x00617")


def command_lines(host: VirtualHost) -> list[bytes]:
    found = []
    for pid in host.pids():
        try:
            found.append((host.root / f"proc/{pid}/cmdline").read_bytes())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def assert_ends(host: VirtualHost, command: bytes) -> None:
    until = time.monotonic() + PATIENCE
    while any(command in each for each in command_lines(host)):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_launch_refuses_with_the_reason(lab: Sandbox, project: Path) -> None:
    write(project.parent / "typo.yaml", "hosts: {conda: {activate: conda activate trian}}")
    found = launch(lab, "tell.py", cwd=project, options=["--profile", "../typo.yaml"])
    assert found.code == 120
    text = " ".join(found.text.split())
    assert (
        "env.activate" in text and "EnvironmentNameNotFound: Could not find conda environment: trian" in text
    )
    assert "Traceback" not in text


@pytest.mark.parametrize("sync", [True, False])
def test_the_working_directory_may_lie_elsewhere_on_a_host(lab: Sandbox, project: Path, sync: bool) -> None:
    for host in lab.hosts:
        write(host.home / "elsewhere/tell.py", TELL)
    lines = "".join(f"  {host.name}: {{workdir: ~/elsewhere}}\n" for host in lab.hosts)
    activate = 'activate: "export PYTHONPATH=~/extra"'
    python = make_standin(lab.hostfile.parent / f"standin-{sync}").read_text()
    write(project.parent / "dirs.yaml", f"{python}{activate}\nhosts:\n{lines}")
    options = ["--force", "--profile", "../dirs.yaml", *([] if sync else ["--no-sync"])]
    found = launch(lab, "tell.py", cwd=project, options=options)
    assert found.code == 0, found.text
    for rank, host in enumerate(lab.hosts):
        assert told(found, host.name, rank)["cwd"] == f"{home(host)}/elsewhere"


def test_other_content_there_is_not_taken_for_the_code(lab: Sandbox, project: Path) -> None:
    write(lab.host("plain").home / "stale/tell.py", "raise SystemExit('stale')")
    write(project.parent / "stale.yaml", PROFILE + "    workdir: ~/stale\n")
    found = launch(lab, "tell.py", cwd=project, options=["--profile", "../stale.yaml"])
    assert found.code == 0, found.text
    assert told(found, "plain", 1)["cwd"].endswith(f"/.clusterctl/node/{found.run.name}/1/work")


def test_doctor_looks_for_the_working_directory_where_the_profile_has_it(
    lab: Sandbox, tmp_path: Path
) -> None:
    profile = tmp_path / "dirs.yaml"
    profile.write_text("hosts: {conda: {workdir: /tmp}, plain: {workdir: /data/not-there}}")
    _, report = doctor(lab, "--quick", "--profile", str(profile))
    assert "does not exist here" in observed(report, "env.path")
    assert [f["hosts"] for f in report["findings"] if f["code"] == "env.path"] == [["plain"]]

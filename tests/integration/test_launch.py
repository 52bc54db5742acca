"""Real runs on real sshd hosts: what arrives, what stops, what is left."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from clusterctl.sandbox import HostSpec, Sandbox
from clusterctl.settings import RUN
from tests import engine_table
from tests.integration.launching import PATIENCE, Launch, launch, leftovers, start
from tests.integration.standin import without_torch

pytestmark = pytest.mark.sandbox

TELL = """
import json, os, sys
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT",
         "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "CUDA_VISIBLE_DEVICES")
told = {name: os.environ.get(name) for name in names}
mine = {k: v for k, v in os.environ.items() if k.startswith("MY_")}
told.update(argv=sys.argv[1:], cwd=os.getcwd(), mine=mine, names=sorted(os.environ))
print(json.dumps(told))
"""

MISBEHAVE = """
import os, signal, sys, time
what, who = sys.argv[1], int(sys.argv[2])
if int(os.environ["RANK"]) == who:
    if what == "raise": raise ValueError("boom in rank %d" % who)
    if what == "exit": sys.exit(7)
    if what == "kill": os.kill(os.getpid(), signal.SIGKILL)
time.sleep(600)
"""

STUBBORN = """
import os, signal, socket, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        code = "import time, signal; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
        os.execve(sys.executable, [sys.executable, "-c", code], {})
    os._exit(0)
listening = socket.create_server(("0.0.0.0", 45991), reuse_port=False)
shm = open("/dev/shm/torch_%d_clusterctl-test" % os.getpid(), "w")
shm.write("x")
shm.flush()
print("ready", flush=True)
time.sleep(600)
"""

SAVES = """
import os, signal, sys, time
def save(*_):
    open("saved-%s" % os.environ["RANK"], "w").write("all of it")
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in (("tell", TELL), ("misbehave", MISBEHAVE), ("stubborn", STUBBORN), ("saves", SAVES)):
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


UNEVEN = [HostSpec("big", slots=3), HostSpec("middle", slots=2), HostSpec("small", slots=1)]


@pytest.fixture(scope="module")
def uneven(namespaces: None) -> Iterator[Sandbox]:
    with Sandbox.create("uneven", UNEVEN) as box:
        yield box


def ranks_of(found: Launch, *hosts: tuple[str, int]) -> list[dict[str, Any]]:
    return [json.loads(found.log(host, rank).splitlines()[-1]) for host, rank in hosts]


def assert_nothing_left(sandbox: Sandbox, found: Launch) -> None:
    assert set(found.outcome["left_behind"].values()) == {0}
    assert leftovers(sandbox, found.run.name) == []


ONE, TWO = (["-n", hosts, "--gpus-per-node", "1"] for hosts in ("1", "2"))
TORCHRUN = ["--engine", "torchrun"]
DEEPSPEED = ["--engine", "deepspeed"]


@pytest.fixture(scope="module")
def no_pdsh(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH without it."""
    tools = tmp_path_factory.mktemp("bin")
    for name in ("ssh", "sh", "env"):
        path = next(Path(folder) / name for folder in ("/usr/bin", "/bin") if (Path(folder) / name).exists())
        (tools / name).symlink_to(path)
    return str(tools)


@pytest.mark.parametrize("start_by", ["torchrun", "pdsh", "no_ssh"])
def test_uneven_hosts_are_one_world_whoever_starts_it(
    uneven: Sandbox, project: Path, no_pdsh: str, start_by: str
) -> None:
    """The same under both engines, over pdsh and without: ranks in hostfile order, and what tells of them.

    The ssh of pdsh also gets what the user wants it to have: here a log of its own.
    """
    ssh_log = project.parent / f"{project.name}.ssh"
    engine = TORCHRUN if start_by == "torchrun" else DEEPSPEED
    env = {"PATH": no_pdsh} if start_by == "no_ssh" else {"PDSH_SSH_ARGS_APPEND": f"-v -E {ssh_log}"}
    found = launch(uneven, "tell.py", cwd=project, options=engine, env=env)
    assert found.code == 0, found.text
    assert {"torchrun": "torchrun, static", "pdsh": "launcher pdsh", "no_ssh": "--no_ssh"}[
        start_by
    ] in found.text
    told = ranks_of(
        found, *((host, rank) for rank, host in enumerate(["big"] * 3 + ["middle"] * 2 + ["small"]))
    )
    assert [t["RANK"] for t in told] == ["0", "1", "2", "3", "4", "5"]
    assert [t["LOCAL_RANK"] for t in told] == ["0", "1", "2", "0", "1", "0"]
    assert [t["LOCAL_WORLD_SIZE"] for t in told] == ["3", "3", "3", "2", "2", "1"]
    assert [t["GROUP_RANK"] for t in told] == ["0", "0", "0", "1", "1", "2"]
    assert {t["WORLD_SIZE"] for t in told} == {"6"}
    assert {t["MASTER_ADDR"] for t in told} == {uneven.host("big").address()}
    assert len({t["MASTER_PORT"] for t in told}) == 1
    assert {t["NCCL_SOCKET_IFNAME"] for t in told} == {"=eth0"}
    assert {t["CUDA_VISIBLE_DEVICES"] for t in told} == {None}, "slots of hosts without GPUs are not devices"
    local_ranks = [[f"--local_rank={t['LOCAL_RANK']}"] for t in told]
    assert [t["argv"] for t in told] == (local_ranks if engine == DEEPSPEED else [[]] * 6)
    start = json.loads((found.run / "plan.json").read_text())["start"]
    own = engine_table.names(engine_table.read()["variables of its own"][start])
    for name in own:
        assert all(any(fnmatch(each, name) for each in t["names"]) for t in told), name
    others = {
        name
        for row in engine_table.read()["variables of its own"].values()
        for name in engine_table.names(row)
    }
    assert not [name for name in others - set(own) for each in told[0]["names"] if fnmatch(each, name)]
    assert_nothing_left(uneven, found)
    settings = {
        s["name"]: s for s in json.loads((found.run / "plan.json").read_text())["nodes"][0]["settings"]
    }
    assert "3 ranks share" in settings["OMP_NUM_THREADS"]["origin"]
    in_tmp = uneven.host("big").run(["ls", "/tmp"]).stdout.split()
    assert not [name for name in in_tmp if name.startswith(("torchelastic", f"clusterctl-{found.run.name}"))]
    assert ssh_log.exists() == (start_by == "pdsh")
    if start_by == "pdsh":
        assert ssh_log.read_text().count("Authenticated to") == 3


@pytest.mark.parametrize("transport", ["fabric", "openssh"])
def test_a_launch_logs_in_once_on_each_host(sandbox: Sandbox, project: Path, transport: str) -> None:
    def logins() -> list[int]:
        logs = [sandbox.directory / "hosts" / name / "sshd.log" for name in ("node1", "node2")]
        return [log.read_text().count("Accepted publickey") for log in logs]

    before = logins()
    options = ["-n", "2", "--transport", transport, *without_torch(sandbox)]
    found = launch(sandbox, "tell.py", cwd=project, options=options)
    assert found.code == 0, found.text
    assert [after - each for after, each in zip(logins(), before, strict=True)] == [1, 1]


def test_selected_slots_are_the_devices_of_a_rank(sandbox: Sandbox, project: Path) -> None:
    found = launch(sandbox, "tell.py", cwd=project, options=["-i", "node2:1@node1"])
    assert found.code == 0, found.text
    told = ranks_of(found, ("node1", 0), ("node1", 1), ("node2", 2))
    assert [t["LOCAL_RANK"] for t in told] == ["0", "1", "0"]


NASTY = [
    "", " ", "two words", "'", '"', "$HOME", "`id`", "\\", "\\n", "line\nbreak", "tab\there", "%h %u %n",
    "a|b;c&d", "*", "~", "--", "-x", "!!", "{a,b}", '{"a": [1, "x y"]}', "ünïcödé 日本 🚀", "\x01\x7f", "K=V",
    "#", "\r\n",
]  # fmt: skip


@pytest.mark.parametrize("engine", [TORCHRUN, DEEPSPEED], ids=["torchrun", "deepspeed"])
def test_arguments_and_variables_arrive_byte_exact(
    sandbox: Sandbox, project: Path, engine: list[str]
) -> None:
    check_transit(sandbox, project, NASTY, [*engine, "--no-local-rank"])


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@pytest.mark.long
@settings(max_examples=15, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(found=st.lists(words, min_size=5, max_size=40))
def test_any_text_arrives_byte_exact(sandbox: Sandbox, project: Path, found: list[str]) -> None:
    check_transit(sandbox, project, [*found, "x" * 100_000], ["--no-local-rank"])


def check_transit(sandbox: Sandbox, project: Path, texts: list[str], options: list[str]) -> None:
    env = [part for i, text in enumerate(texts) for part in ("--env", f"MY_{i}={text}")]
    found = launch(sandbox, "tell.py", *texts, cwd=project, options=["-i", "node1:0@node2:0", *options, *env])
    assert found.code == 0, found.text
    for told in ranks_of(found, ("node1", 0), ("node2", 1)):
        assert told["argv"] == texts
        assert told["mine"] == {f"MY_{i}": text for i, text in enumerate(texts)}


@pytest.mark.parametrize(
    ("what", "code", "kind", "message"),
    [
        ("raise", 1, "exception", "ValueError: boom in rank 2"),
        ("exit", 7, "exit", "ended with exit code 7"),
        ("kill", 137, "signal", "killed by SIGKILL"),
    ],
)
def test_first_failure_stops_all_and_is_named(
    sandbox: Sandbox, project: Path, what: str, code: int, kind: str, message: str
) -> None:
    standin = [] if what == "raise" else without_torch(sandbox)  # how a rank ended, its waiter tells
    found = launch(sandbox, "misbehave.py", what, "2", cwd=project, options=["-n", "2", *standin])
    outcome = found.outcome
    assert found.code == code == outcome["exit_code"], found.text
    assert outcome["status"] == "failed"
    cause = outcome["cause"]
    assert (cause["host"], cause["rank"], cause["kind"], cause["message"]) == ("node2", 2, kind, message)
    assert outcome["collateral"], "the ranks that were stopped are told apart from the cause"
    assert f"{code}, the exit code of rank 2" in found.text
    assert "0 processes left on 2 of 2 hosts" in found.text
    if what == "raise":
        assert "boom in rank 2" in cause["traceback"]
        assert "boom in rank 2" in found.log("node2", 2)
    assert_nothing_left(sandbox, found)


def test_what_ignores_every_signal_is_ended_too(sandbox: Sandbox, project: Path) -> None:
    bystander = sandbox.host("node1").popen(["sleep", "600"])
    found = start(sandbox, "stubborn.py", cwd=project, options=TWO)
    found.wait_for_logs("ready", 2)
    found.signal()
    found.wait_for(lambda events: any(e["event"] == "stopping" for e in events))
    found.signal()
    found.finish()
    assert found.code == 123, found.text
    assert found.outcome["cause"]["kind"] == "operator"
    assert_nothing_left(sandbox, found)
    sleeping = [
        pid for host in sandbox.hosts for pid in host.pids() if "time.sleep(600)" in _command(host, pid)
    ]
    assert sleeping == [], "a grandchild that left the session and cleared its environment"
    for host in (sandbox.host("node1"), sandbox.host("node2")):
        bind = "import socket; socket.create_server(('0.0.0.0', 45991)).close(); print('free')"
        assert host.run([sys.executable, "-S", "-c", bind]).stdout == "free\n"
        assert "clusterctl-test" not in str(host.run(["ls", "/dev/shm"]).stdout)
    assert bystander.poll() is None, "what does not belong to the run is left alone"
    bystander.kill()
    bystander.wait()


def _command(host: object, pid: int) -> str:
    text = host.run(["cat", f"/proc/{pid}/cmdline"]).stdout  # type: ignore[attr-defined]
    return str(text)


def test_time_limit_lets_scripts_save(sandbox: Sandbox, project: Path) -> None:
    options = ["-n", "2", "--time-limit", "15s", *without_torch(sandbox)]
    found = launch(sandbox, "saves.py", cwd=project, options=options)
    assert found.code == 124, found.text
    assert found.outcome["status"] == "timeout"
    assert [found.log(h, r).split() for h, r in (("node1", 0), ("node2", 3))] == [["ready", "saved"]] * 2
    assert_nothing_left(sandbox, found)


def test_logs_are_complete_to_the_last_byte(sandbox: Sandbox, project: Path) -> None:
    (project / "loud.py").write_text(
        "import hashlib, os, sys\n"
        "rank = int(os.environ['RANK'])\n"
        "line = lambda i: b'%d %d %s\\n' % (rank, i, hashlib.sha256(b'%d' % i).digest())\n"
        "data = b''.join(map(line, range(40000)))\n"
        "sys.stdout.buffer.write(data + b'no newline at the end')\n"
    )
    found = launch(sandbox, "loud.py", cwd=project, options=[*TWO, *without_torch(sandbox)])
    assert found.code == 0, found.text[-2000:]
    for host, rank in (("node1", 0), ("node2", 1)):
        lines = b"".join(b"%d %d %s\n" % (rank, i, hashlib.sha256(b"%d" % i).digest()) for i in range(40000))
        written = (found.run / "logs" / host / f"rank-{rank}.log").read_bytes()
        assert written.endswith(lines + b"no newline at the end")
    assert found.outcome["incomplete_logs"] == []


def test_a_rank_that_never_stops_printing_hides_no_failure(sandbox: Sandbox, project: Path) -> None:
    (project / "chatty.py").write_text(
        "import os, time\n"
        "if os.environ['RANK'] == '1': time.sleep(3); raise SystemExit(9)\n"
        "while True: print('x' * 4000, flush=True)\n"
    )
    options = ["-i", "node1:0@node2:0", "--time-limit", "60s", *without_torch(sandbox)]
    found = launch(sandbox, "chatty.py", cwd=project, options=options)
    assert found.code == 9, found.text[-2000:]
    assert_nothing_left(sandbox, found)
    assert found.outcome["incomplete_logs"] == []


def test_broken_connections_lose_nothing(make_sandbox, project: Path) -> None:  # type: ignore[no-untyped-def]
    box = make_sandbox(hosts=[HostSpec("a"), HostSpec("b")])
    (project / "count.py").write_text(
        "import itertools, os, sys, time\n"
        "for number in itertools.count():\n"
        "    print(number, flush=True)\n"
        "    if os.path.exists(sys.argv[1]): break\n"
        "    time.sleep(0.1)\n"
    )
    enough = box.hostfile.parent / "enough"  # which hosts see
    found = start(box, "count.py", str(enough), cwd=project, options=without_torch(box))
    found.wait_for_ranks(2)
    host, title = box.host("b"), f"sshd: {getpass.getuser()}"
    for times in (1, 2):
        sessions = [pid for pid in host.pids() if _command(host, pid).startswith(title)]
        assert sessions
        ended_by_itself = "|| true"
        host.admin(["sh", "-c", f'kill -9 "$@" {ended_by_itself}', "sh", *map(str, sessions)])
        found.wait_for(lambda events, times=times: _connected_again(events) >= times)  # type: ignore[misc]
    enough.touch()
    found.finish()
    assert found.code == 0, found.text
    assert "connected again" in found.text
    numbers = found.log("b", 1).split()
    assert numbers == [str(number) for number in range(len(numbers))]
    assert found.outcome["incomplete_logs"] == []
    assert_nothing_left(box, found)


def _connected_again(events: list[dict[str, Any]]) -> int:
    return sum("connected again" in event.get("text", "") for event in events)


def test_a_host_that_loses_power_is_lost(make_sandbox, project: Path) -> None:  # type: ignore[no-untyped-def]
    box = make_sandbox(hosts=[HostSpec("a"), HostSpec("b"), HostSpec("c")])
    found = start(box, "saves.py", cwd=project, options=without_torch(box))
    found.wait_for_ranks(3)
    box.host("b").crash()
    found.finish()
    assert found.code == 121, found.text
    assert found.outcome["cause"]["host"] == "b"
    assert found.outcome["left_behind"] == {"a": 0, "b": None, "c": 0}


def test_a_killed_agent_leaves_nothing(sandbox: Sandbox, project: Path) -> None:
    found = start(sandbox, "stubborn.py", cwd=project, options=[*TWO, *without_torch(sandbox)])
    found.wait_for_ranks(2)
    agent = next(e["pid"] for e in found.events() if e["event"] == "agent" and e["host"] == "node2")
    sandbox.host("node2").run(["kill", "-9", str(agent)])
    found.finish()
    assert found.code == 125, found.text
    assert found.outcome["cause"]["host"] == "node2"
    assert_nothing_left(sandbox, found)


def test_an_agent_that_is_told_to_end_is_no_success(sandbox: Sandbox, project: Path) -> None:
    found = start(sandbox, "stubborn.py", cwd=project, options=[*TWO, *without_torch(sandbox)])
    found.wait_for_ranks(2)
    agent = next(e["pid"] for e in found.events() if e["event"] == "agent" and e["host"] == "node2")
    sandbox.host("node2").run(["kill", "-TERM", str(agent)])
    found.finish()
    assert found.code == 125, found.text
    assert "SIGTERM" in found.outcome["cause"]["message"]
    assert_nothing_left(sandbox, found)


def test_ctrl_c_while_code_is_copied_starts_nothing(make_sandbox, project: Path) -> None:  # type: ignore[no-untyped-def]
    box = make_sandbox(hosts=[HostSpec("a"), HostSpec("b")])
    (project / "weights.bin").write_bytes(os.urandom(20_000_000))
    box.host("b").limit_bandwidth("eth0", "4mbit")
    found = start(box, "tell.py", cwd=project)
    store = box.host("a").home / ".clusterctl/node/snapshots"
    until = time.monotonic() + PATIENCE
    while not (store.is_dir() and any("." not in path.name for path in store.iterdir())):
        assert time.monotonic() < until
        time.sleep(0.1)
    found.signal()
    found.finish()
    assert (found.code, found.outcome["status"]) == (123, "stopped"), found.text
    assert not [event for event in found.events() if event["event"] == "started"]
    assert_nothing_left(box, found)


def test_a_run_on_a_full_disk_can_be_stopped(make_sandbox, project: Path) -> None:  # type: ignore[no-untyped-def]
    box = make_sandbox(hosts=[HostSpec("a"), HostSpec("b")])
    node = box.host("b").home / ".clusterctl/node"
    box.host("b").run(["mkdir", "-p", str(node)])
    box.host("b").admin(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0777", "small", str(node)])
    (project / "fills.py").write_text(
        "import os, time\n"
        "if os.environ['RANK'] == '1':\n"
        "    with open('big', 'wb', buffering=0) as big:\n"
        "        try:\n"
        "            while True: big.write(b'x' * 4096)\n"
        "        except OSError as error: print('full', flush=True)\n"
        "time.sleep(600)\n"
    )
    found = start(box, "fills.py", cwd=project, options=without_torch(box))
    found.wait_for_ranks(2)
    time.sleep(4)
    found.signal()
    found.finish()
    assert found.code == 123, found.text
    assert leftovers(box, found.run.name) == []


@pytest.mark.long
def test_a_terminal_that_stands_still_costs_the_run_nothing(sandbox: Sandbox, project: Path) -> None:
    seconds = RUN.lease_attached + 20
    (project / "loud.py").write_text(
        f"import time\nuntil = time.time() + {seconds}\n"
        "while time.time() < until: print('x' * 2000, flush=True); time.sleep(0.002)\n"
    )
    found = start(sandbox, "loud.py", cwd=project, options=TWO)
    time.sleep(seconds + 10)  # nobody reads what launch prints: its pipe is full after a moment
    found.finish()
    assert found.code == 0, found.text[-2000:]
    assert found.outcome["incomplete_logs"] == []
    assert_nothing_left(sandbox, found)


@pytest.mark.long
def test_a_killed_controller_ends_the_run_when_the_lease_is_over(sandbox: Sandbox, project: Path) -> None:
    found = start(sandbox, "stubborn.py", cwd=project, options=TWO)
    found.wait_for_ranks(2)
    found.signal(signal.SIGKILL)
    found.finish()
    assert leftovers(sandbox, found.run.name), "the lease keeps the run alive for a while"
    until = time.monotonic() + PATIENCE
    while leftovers(sandbox, found.run.name) and time.monotonic() < until:
        time.sleep(2)
    assert leftovers(sandbox, found.run.name) == []


def test_a_host_that_cannot_take_its_part_stops_the_others(sandbox: Sandbox, project: Path) -> None:
    home = sandbox.host("node2").home
    sandbox.host("node2").run(["sh", "-c", "mkdir -p ~/.clusterctl && touch ~/.clusterctl/node"])
    blocked = sandbox.host("node2").run(["test", "-f", f"{home}/.clusterctl/node"]).returncode == 0
    if not blocked:
        sandbox.host("node2").run(
            ["sh", "-c", "mv ~/.clusterctl/node ~/node-aside; touch ~/.clusterctl/node"]
        )
    found = launch(sandbox, "saves.py", cwd=project, options=[*TWO, "--no-sync", *without_torch(sandbox)])
    sandbox.host("node2").run(["sh", "-c", "rm ~/.clusterctl/node; mv ~/node-aside ~/.clusterctl/node"])
    assert found.code == 125, found.text
    assert "node2: cannot start there" in found.text
    assert_nothing_left(sandbox, found)


def test_a_reader_that_leaves_early_does_not_end_the_run(sandbox: Sandbox, project: Path) -> None:
    (project / "long.py").write_text("for i in range(2000): print(i, flush=True)\n")
    found = start(sandbox, "long.py", cwd=project, options=[*ONE, *without_torch(sandbox)])
    assert found.process.stdout is not None
    found.process.stdout.readline()
    found.process.stdout.close()
    assert found.process.wait(PATIENCE) == 0
    assert found.log("node1", 0).split()[-1] == "1999"


def test_busy_slots_are_refused(sandbox: Sandbox, project: Path) -> None:
    first = start(sandbox, "saves.py", cwd=project, options=[*ONE, *without_torch(sandbox)])
    first.wait_for_ranks(1)
    second = launch_other(sandbox, project)
    assert second.code == 120, second.text
    assert f"busy with run {first.run.name}" in second.text
    assert "hint:" in second.text
    first.signal()
    first.finish()
    assert first.code == 123


def launch_other(sandbox: Sandbox, project: Path) -> Launch:
    return launch(sandbox, "tell.py", cwd=project, options=TWO)


READS = """
import os
print(open("data.txt").read())
open("out.txt", "w").write("x")
print(os.getcwd())
"""


def reads(project: Path) -> Path:
    (project / "data.txt").write_text("version one")
    (project / "reads.py").write_text(READS)
    (project / ".git").mkdir()
    (project / ".git/huge").write_bytes(bytes(300 * 10**6))
    return project


def test_code_travels_and_outputs_stay_in_the_copy(sandbox: Sandbox, project: Path) -> None:
    found = launch(sandbox, "reads.py", cwd=reads(project), options=[*ONE, *without_torch(sandbox)])
    assert found.code == 0, found.text
    text, cwd = found.log("node1", 0).splitlines()
    assert (text, cwd.endswith(f"{found.run.name}/0/work")) == ("version one", True), (
        "hosts have a /tmp of their own"
    )
    assert sandbox.host("node1").run(["ls", cwd]).stdout.split().count("out.txt") == 1
    assert not (project / "out.txt").exists()


def test_equal_content_at_the_same_path_is_used_in_place(sandbox: Sandbox) -> None:
    shared = Path(__file__).parents[2] / ".cache"
    shared.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        project = reads(Path(folder))
        found = launch(sandbox, "reads.py", cwd=project, options=[*ONE, *without_torch(sandbox)])
        assert found.code == 0, found.text
        assert found.log("node1", 0).splitlines() == ["version one", folder]
        assert (project / "out.txt").read_text() == "x"


def test_wrong_usage_is_64_with_a_hint(sandbox: Sandbox, project: Path) -> None:
    for words, expected in (
        (["nothere.py"], "does not exist"),
        (["/etc/hostname"], "outside the working directory"),
    ):
        found = launch(sandbox, *words, cwd=project)
        assert found.code == 64
        assert expected in found.text
        assert "hint:" in found.text
        assert "Traceback" not in found.text
    for options, expected in (
        (["--env", "PYTHONPATH=x"], "PYTHONPATH"),
        (["--time-limit", "soon"], "soon"),
        (["-n", "9"], "9"),
        (["--nosuch"], "nosuch"),
    ):
        found = launch(sandbox, "tell.py", cwd=project, options=options)
        assert (found.code, expected in found.text, "Traceback" in found.text) == (64, True, False), (
            found.text
        )

"""What a look at ranks brings home, whatever their processes answer; and what is counted of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.messages.evidence import HostEvidence, RankEvidence
from clusterctl.node.observe import evidence, signalled
from clusterctl.node.observe.connections import Connections
from clusterctl.node.observe.counters import io_of, name_of, use_of, wchan_of
from clusterctl.node.observe.debug_server import NoAnswer, ask
from clusterctl.node.shared.processes import stat_of
from clusterctl.node.shared.wire import sendable
from tests.node_run import PYTHON, wait_until


class Processes:
    """Ranks as the observer finds them: one process each."""

    def __init__(self, *pids: int) -> None:
        self.pids = pids

    def trees(self) -> dict[int, list[int]]:
        return {rank: [pid] for rank, pid in enumerate(self.pids)}

    def raised(self, rank: int) -> str:
        return ""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "600"])
    yield child
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    child.wait()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[int, Callable[[socket.socket], None]], None]]:
    """Have somebody else answer in the place of a rank's debug server."""
    servers = []

    def start(pid: int, answer: Callable[[socket.socket], None]) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(tmp_path / f"{pid}.sock"))
        server.listen(16)
        servers.append(server)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    link, _ = server.accept()
                    threading.Thread(target=answer, args=(link,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    yield start
    for server in servers:
        server.close()


def look(folder: Path, *pids: int) -> tuple[RankEvidence, ...]:
    found = evidence.look(1, Processes(*pids), str(folder), 0)
    return msgspec.json.decode(
        json.dumps(sendable(found)).encode("utf-8", "replace"), type=HostEvidence
    ).ranks


def says(body: bytes, head: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Callable[[socket.socket], None]:
    def answer(link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            link.recv(65536)
            link.sendall(head + body)

    return answer


def never(link: socket.socket) -> None:
    threading.Event().wait(120)


def drips(link: socket.socket) -> None:
    """Never long silent, never at an end."""
    with link, contextlib.suppress(OSError):
        while True:
            link.sendall(b"x")
            threading.Event().wait(0.05)


GARBAGE = [
    b"",
    b"\xff\xfe\x00 no text",
    b'Thread 0x1 (most recent call first):\n  File "\xed\xa0\x80", line 99999999999999 in f\n' * 2000,
    b'{"entries": [[[[{"process_group": 3}]]], {"process_group": [{}, []], "collective_seq_id": 1e400}]}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
def test_nonsense_costs_what_it_is_told_in_place_of(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], serve: Any, body: bytes
) -> None:
    serve(sleeper.pid, says(body))
    (rank,) = look(tmp_path, sleeper.pid)
    assert rank.processes[0].state in ("S", "R")  # it may be about to sleep still
    assert rank.processes[0].command == "sleep 600"


def test_what_is_no_answer_is_said(tmp_path: Path, sleeper: subprocess.Popen[bytes], serve: Any) -> None:
    serve(sleeper.pid, says(b"no", b"HTTP/1.1 404 Not Found\r\n\r\n"))
    (rank,) = look(tmp_path, sleeper.pid)
    assert rank.unseen[0] == "its debug server does not know dump_traceback"
    assert rank.unseen[1] == "it does not handle the signal that would show its stacks"


@pytest.mark.parametrize("answer", [never, drips])
def test_who_never_comes_to_an_end_holds_up_nobody(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], serve: Any, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    monkeypatch.setattr(evidence, "_ANSWER_TIMEOUT", 0.3)
    other = subprocess.Popen(["sleep", "500"])
    try:
        serve(sleeper.pid, answer)
        serve(other.pid, says(b'Thread 0x1 (most recent call first):\n  File "t.py", line 3 in f\n'))
        first, second = look(tmp_path, sleeper.pid, other.pid)
    finally:
        other.kill()
        other.wait()
    assert first.unseen[0] == "its debug server did not answer within 0.3 s"
    assert second.threads[0].frames[0].function == "f"


def test_a_rank_that_waits_in_the_kernel_is_left_behind(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "_LOOK_TIMEOUT", 0.3)
    monkeypatch.setattr(evidence, "command_of", lambda pid: threading.Event().wait(60))
    (rank,) = look(tmp_path, sleeper.pid)
    assert rank.unseen == ("not all of it could be read in time",)


def test_who_answers_more_than_is_sensible_is_cut_off(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], serve: Any
) -> None:
    serve(sleeper.pid, says(b"x" * (9 << 20)))
    with pytest.raises(NoAnswer, match="more than 8 MiB"):
        ask(str(tmp_path / f"{sleeper.pid}.sock"), "dump_traceback", 60.0)


def test_a_look_fits_into_a_message(tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "_ANSWER_TIMEOUT", 300.0)
    monkeypatch.setattr(evidence, "_LOOK_TIMEOUT", 600.0)
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(8)]
    text = "".join(
        f"Thread {hex(number)} (most recent call first):\n"
        + "".join(f'  File "/{"long/" * 60}f.py", line {line} in {"g" * 200}\n' for line in range(100))
        for number in range(1, 60)
    )
    try:
        for child in children:
            serve(child.pid, says(text.encode()))
        found = evidence.look(1, Processes(*(child.pid for child in children)), str(tmp_path), 0)
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert len(json.dumps(found)) <= 192 * 1024
    assert all(rank["threads"] for rank in found["ranks"])


def test_a_stopped_process_is_not_asked(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "_path_of", lambda pid: str(tmp_path))  # no py-spy here
    asked: list[int] = []
    serve(sleeper.pid, lambda link: asked.append(1))
    os.kill(sleeper.pid, signal.SIGSTOP)
    wait_until(lambda: stat_of(sleeper.pid).state == "T")
    (rank,) = look(tmp_path, sleeper.pid)
    assert rank.processes[0].state == "T"
    assert rank.unseen == ("it was stopped by a signal, so it cannot show its stacks",)
    assert not asked


def test_the_signal_is_sent_to_nobody_whom_it_would_end(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    (tmp_path / f"{sleeper.pid}.stacks").touch()
    (rank,) = look(tmp_path, sleeper.pid)
    assert rank.unseen == ("it does not handle the signal that would show its stacks",)
    assert sleeper.poll() is None


ARMED = """
import faulthandler, os, signal, sys
target = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
faulthandler.register(signal.SIGRTMIN + 5, file=target, all_threads=True)
print("armed", flush=True)
input()
"""


def test_the_signal_is_sent_to_nobody_who_would_write_elsewhere(tmp_path: Path) -> None:
    """Its script has closed the descriptor, and the number may be another file's by now."""
    precious = tmp_path / "precious"
    child = subprocess.Popen(
        [PYTHON, "-c", ARMED, str(precious)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    assert child.stdout.readline()
    path = tmp_path / f"{child.pid}.stacks"
    path.touch()
    with pytest.raises(NoAnswer, match="closed the file"):
        signalled.stacks(str(path), child.pid, 5.0)
    child.communicate("\n")
    assert precious.read_text() == ""


def test_files_below_the_working_directory_are_told_as_on_every_host(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], serve: Any
) -> None:
    files = ("/w/sub/t.py", "/w/lib.py", "/world.py")
    text = "".join(f'  File "{file}", line 3 in f\n' for file in files)
    serve(sleeper.pid, says(b"Thread 0x1 (most recent call first):\n" + text.encode()))
    found = evidence.look(1, Processes(sleeper.pid), str(tmp_path), 0, ["/w/sub", "/w"])
    frames = found["ranks"][0]["threads"][0]["frames"]
    assert [frame[0] for frame in frames] == ["t.py", "lib.py", "/world.py"]


def test_connections_of_a_process_are_counted_less_those_of_the_store() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as store:
        ends = []
        for each in (server, store):
            ends += [socket.create_connection(each.getsockname()), each.accept()[0]]
        ends[0].sendall(b"x" * 5000)
        ends[2].sendall(b"y" * 7000)
        assert ends[1].recv(5000, socket.MSG_WAITALL)
        assert ends[3].recv(7000, socket.MSG_WAITALL)
        connections = Connections(store.getsockname()[1])
        inodes = {os.fstat(end.fileno()).st_ino for end in ends}

        def settled() -> bool:
            connections.look()
            connections.open = {inode: told for inode, told in connections.open.items() if inode in inodes}
            return sum(sent for sent, _ in connections.open.values()) >= 5000

        wait_until(settled)
        assert connections.of(os.getpid()) == (pytest.approx(5000, abs=2), 5000)
        assert connections.of(os.getpid()) == (0, 0), "what several processes hold is counted once"
        for end in ends:
            end.close()


@pytest.mark.parametrize(
    ("address", "foreign"),
    [
        ("8.8.8.8", True),
        ("10.0.0.1", False),
        ("127.0.0.1", False),
        ("::ffff:10.1.2.3", False),
        ("::ffff:8.8.8.8", True),
        ("2606:4700::1111", True),
        ("fe80::1", False),
    ],
)
def test_what_goes_into_the_world_is_no_training(address: str, foreign: bool) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connections: Any = Connections()
    assert connections._is_foreign(socket.inet_pton(family, address)) is foreign


def test_counters_of_this_very_process() -> None:
    pid = os.getpid()
    before, moved = use_of(pid), io_of(pid)
    assert before
    assert moved
    size = 50_000_000
    with Path(os.devnull).open("wb", buffering=0) as sink:
        sink.write(bytearray(size))
    after, then = use_of(pid), io_of(pid)
    assert after.faults > before.faults
    assert then.moved - moved.moved >= size
    assert name_of(pid)
    assert use_of(2**22 + 5) is None
    assert io_of(2**22 + 5) is None
    assert (name_of(2**22 + 5), wchan_of(2**22 + 5)) == ("", "")


def test_the_observer_tells_samples_and_looks(tmp_path: Path) -> None:
    from tests.node_run import NodeRun

    script = "import os, time; os.system('sleep 601 &'); print('up', flush=True); time.sleep(600)"
    run = NodeRun(tmp_path, [sys.executable, "-c", script], observed=True).start()
    child = None
    try:
        run.wait_for_log("up")
        child = subprocess.Popen(
            [PYTHON, "-I", "-S", str(run.root / "code/observer.py"), str(run.root), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin
        assert child.stdout
        child.stdin.write(
            '{"do": "watch", "interval": 0.1, "port": 1}\n{"do": "look", "look": 4, "port": 1}\n'
        )
        child.stdin.flush()
        heard: list[Any] = []
        while {each["is"] for each in heard} != {"activity", "evidence"}:
            heard.append(json.loads(child.stdout.readline()))
        told = next(each["evidence"] for each in heard if each["is"] == "evidence")
        found = msgspec.convert(told, HostEvidence)
        assert found.look == 4
        assert found.ranks[0].source == "faulthandler"
        assert found.ranks[0].threads[0].main
        own, orphan = found.ranks[0].processes
        assert "sleep 601" in orphan.command and orphan.parent != own.pid
        assert next(each for each in heard if each["is"] == "activity")["ranks"][0][:2] == [0, 3]
        child.stdin.close()
        assert child.wait() == 0, "it ends with its input"
    finally:
        if child is not None and child.poll() is None:
            child.kill()
        run.close()


def test_what_torch_has_dumped_lies_beside_the_logs_at_the_end(tmp_path: Path) -> None:
    from tests.node_run import NodeRun

    run = NodeRun(
        tmp_path,
        ["sh", "-c", 'printf pickle > "$TORCH_FR_DUMP_TEMP_FILE$RANK"; exit 3'],
        env={"TORCH_FR_DUMP_TEMP_FILE": "{run_dir}/dumps/rank-"},
    ).start()
    try:
        run.wait_end()
        path = run.root / "logs/flight-0.pickle"
        assert path.read_text() == "pickle"
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        run.close()

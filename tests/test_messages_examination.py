"""An examination between the controller's types and the node's real program, and what no node should say."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.ask.bundle import pack
from clusterctl.ask.clean import Part, clean
from clusterctl.ask.facts import PROBE, FactsRequest, ask
from clusterctl.ask.host_session import MARK, HostSession, listen
from clusterctl.ask.pull import Source, pull
from clusterctl.facts.decode import decode_facts, decode_nccl
from clusterctl.messages.examination import (
    AskNccl,
    AwaitBundle,
    Awaiting,
    DialAll,
    Dialled,
    ExaminationAnswer,
    FactsTold,
    ImportTorch,
    IsNcclHeld,
    Listen,
    Listening,
    MasterPort,
    NcclAsked,
    NcclHeld,
    Ping,
    Pong,
    TorchImported,
    examination_answers,
)
from clusterctl.messages.pull import Done, Listing, Piece, PullMessage, PullRefused, pull_messages
from tests.builders import healthy, inventory
from tests.local_channel import LocalChannel
from tests.recorded_hosts import RecordedHosts

TOKEN = "00112233445566778899aabbccddeeff"


def hear(talk: HostSession[ExaminationAnswer], until: type[ExaminationAnswer]) -> Any:
    for _, message in listen([talk], time.monotonic() + 120):
        assert message is not None, talk.last_words or talk.noise
        if isinstance(message, until):
            return message
    raise AssertionError(f"no {until.__name__} came")


def test_a_whole_examination_of_the_real_program_is_understood(tmp_path: Path) -> None:
    name = os.fsdecode(b"NCCL_\xff")
    channel = LocalChannel(tmp_path)
    talk = HostSession(channel, examination_answers)
    request = {"timeout": 100, "controller_python": sys.executable, "env": {name: os.fsdecode(b"\xfe")}}
    try:
        channel.send(pack("probe.main", request, PROBE))
        facts = decode_facts("here", hear(talk, FactsTold).facts)
        assert facts.errors == ()
        assert facts.boot_id
        assert ("NCCL_?", "?") in [(each.name, each.value) for each in facts.variables]
        talk.send(Ping(sent=1.5))
        assert hear(talk, Pong).sent == 1.5
        talk.send(ImportTorch(python="/nowhere/python", timeout=5.0))
        assert "FileNotFoundError" in hear(talk, TorchImported).error
        master = MasterPort(port=None, preferred=29500, tries=100)
        talk.send(
            Listen(
                token=TOKEN,
                rank=3,
                addresses=("127.0.0.1",),
                ephemeral=1,
                port_range=(32768, 60999),
                master=master,
            )
        )
        listening = hear(talk, Listening)
        assert listening.master_port
        assert not listening.error
        open_port = listening.listeners[0]
        peers = (((open_port.address, open_port.port, True),),)
        talk.send(DialAll(peers=peers, dial_timeout=20.0, reply_timeout=30.0, timeout=60.0))
        (result,) = hear(talk, Dialled).results
        assert (result.order, result.result, result.seen, result.rank) == (0, "ok", "127.0.0.1", 3)
        meeting = {"NCCL_COMM_ID": "10.0.0.1:4000"}
        talk.send(AskNccl(python=sys.executable, env=meeting, removed=(), library="", timeout=60.0))
        assert "NCCL_COMM_ID" in decode_nccl(hear(talk, NcclAsked).nccl).missing
        talk.send(IsNcclHeld())
        assert hear(talk, NcclHeld).held
        talk.send(AwaitBundle())
        hear(talk, Awaiting)
        channel.send(pack("probe.main", request, PROBE))
        hear(talk, FactsTold)
    finally:
        talk.close()


def test_bytes_that_are_no_text_leave_a_node_as_question_marks(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('a file of the user')")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / os.fsdecode(b"out\xff.bin")).write_bytes(b"weights")
    channel = LocalChannel(tmp_path)
    talk = HostSession(channel, pull_messages)
    request = msgspec.structs.asdict(Source(root=str(tmp_path / "work"), path="."))
    heard: list[PullMessage] = []
    try:
        channel.send(pack("pull", request, ("run.snapshot",)))
        for _, message in listen([talk], time.monotonic() + 60):
            assert message is not None, talk.last_words or talk.noise
            heard.append(message)
            if isinstance(message, Done | PullRefused):
                break
    finally:
        talk.close()
    assert heard[0] == Listing(count=1, there=("out?.bin",))
    assert isinstance(heard[1], Piece)
    assert heard[-1] == Done()


def line(**message: object) -> bytes:
    return MARK + msgspec.json.encode(message) + b"\n"


WELL = line(**{"is": "facts", "facts": msgspec.to_builtins(healthy(1))})

HOSTILE = [
    b"[" * 100_000,
    b'{"is": "facts"}',
    b'{"is": "facts", "facts": []}',
    b'{"is": "facts", "facts": {"user": "\\ud800"}}',
    b'{"is": "facts", "facts": ' + b'{"a":' * 100_000,
    b'{"is": "pong", "sent": "now", "time": 1}',
    b'{"is": "listening", "listeners": [["127.0.0.1", 70000, "high"]]}',
    b'{"is": "listening", "listeners": [["127.0.0.1", 7000, "magic"]]}',
    b'{"is": "dialled", "results": [[-1, "ok", 0.1, "", "", ""]]}',
    b'{"facts": {}}',
    b"\xff\xfe",
    b"null",
    b"x" * (9 << 20),
]


@pytest.mark.parametrize("said", HOSTILE)
@pytest.mark.parametrize("before", [b"", WELL], ids=["first", "after-facts"])
def test_what_is_no_answer_costs_that_host_alone(said: bytes, before: bytes) -> None:
    hosts = RecordedHosts({"node1": before + MARK + said + b"\n" + WELL, "node2": WELL})
    found = ask(hosts, inventory({"node1": healthy(1), "node2": healthy(2)}), FactsRequest(quick=True))
    assert list(found.facts) == ["node2"]
    assert list(found.failures) == ["node1"]
    assert found.failures["node1"].stage == "decode"
    assert not [dial for dial in found.reachability.dials if "node1" in (dial.source, dial.target)]


@pytest.mark.parametrize(
    "said",
    [
        b'{"is": "listing", "count": -1}',
        b'{"is": "piece", "data": "%%%"}',
        b'{"is": "done", "skipped": []}',
        b'{"is": "refused", "reason": 7}',
        b"[" * 100_000,
        b"null",
    ],
)
def test_what_is_no_part_of_an_archive_costs_that_host_alone(said: bytes, tmp_path: Path) -> None:
    none = line(**{"is": "listing", "count": 0, "there": ["a"]}) + line(**{"is": "done"})
    hosts = RecordedHosts({"a": MARK + said + b"\n" + none, "b": none})
    source = Source(root="/x", path="y")
    first, second = pull(hosts, {"a": source, "b": source}, tmp_path / "to")
    assert "that is not a message" in first.problem
    assert (second.problem, second.there) == ("", ("a",))


@pytest.mark.parametrize(
    "said",
    [
        b'{"is": "run", "run": "r", "what": "eaten", "bytes": 1}',
        b'{"is": "run", "run": "r", "what": "removed", "bytes": -1}',
        b'{"is": "done"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_word_of_a_clean_costs_that_host_alone(said: bytes) -> None:
    told = line(**{"is": "run", "run": "r", "what": "removed", "bytes": 7})
    told += line(**{"is": "run", "run": "not asked for", "what": "removed", "bytes": 7})
    done = line(**{"is": "done", "snapshots": 1, "bytes": 3})
    hosts = RecordedHosts({"a": MARK + said + b"\n" + told + done, "b": told + done, "c": told})
    parts = {host: {"r": Part(node_rank=0, take_outputs=False)} for host in "abc"}
    first, second, third = clean(hosts, parts, dry_run=False)
    assert "that is not a message" in first.problem
    assert (second.problem, second.freed, second.snapshots) == ("", 10, 1)
    assert third.problem.startswith("the connection broke off")
    assert [each.run for each in (*second.runs, *third.runs)] == ["r", "r"]

"""What the node's programs really say, and what no node should say, through the controller's types."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest

from clusterctl.ask.bundle import pack
from clusterctl.ask.host_session import MARK, HostSession, listen
from clusterctl.messages import events, orders, relay
from clusterctl.messages.codec import Garbled
from clusterctl.run.relay_bundle import RELAY, RELAY_FILES
from tests.local_channel import LocalChannel

SCRIPT = """
print("out of the script", flush=True)
raise ValueError("half a pair: " + chr(0xD800) + "x" * 70_000)
"""


def session(home: Path, run: str = "r") -> HostSession[relay.Reply]:
    found = HostSession(LocalChannel(home), relay.replies)
    offsets = {"events.jsonl": 0}
    request = {"run": run, "node_rank": 0, "attempt": 1, "offsets": offsets, "lease": 60.0}
    found.channel.send(pack(RELAY, request, RELAY_FILES))
    return found


def job(tmp_path: Path) -> orders.Job:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return orders.Job(
        run="r",
        owner="ann",
        node_rank=0,
        slots=(0,),
        ranks=(0,),
        python=sys.executable,
        command=(sys.executable, str(script)),
        arguments=(),
        pass_local_rank=False,
        env={"RANK": "0"},
        removed=(),
        engine=(sys.executable, "{run_dir}/code/rank.py", "r"),
        enter="",
        files={},
        cwd=str(tmp_path),
        subdirectory="",
        digest="",
        failure_grace=1.5,
        lock_dir=str(tmp_path),
    )


def test_a_whole_run_of_the_real_relay_and_agent_is_understood(tmp_path: Path) -> None:
    talk = session(tmp_path)
    said = listen([talk], time.monotonic() + 60)
    received = 0

    def hear(until: type[relay.Reply], heard: list[relay.Reply] | None = None) -> Any:
        nonlocal received
        for _, message in said:
            assert message is not None, talk.last_words or talk.noise
            if heard is not None:
                heard.append(message)
            if isinstance(message, relay.LogPiece):
                received += len(message.data)
                talk.send(orders.Acknowledge(received=received))
            if isinstance(message, until):
                return message
        raise AssertionError(f"no {until.__name__} came")

    try:
        talk.send(orders.Check(root=str(tmp_path), manifest={}, in_place=True, digest="0" * 32))
        assert not hear(relay.Checked).snapshot
        talk.send(orders.StartAgent(job=job(tmp_path)))
        assert hear(relay.Started).cwd == str(tmp_path)
        heard: list[relay.Reply] = []
        complete = hear(relay.Complete, heard)
        talk.send(orders.Probe(node_rank=0, address="127.0.0.1", ports=(1,)))
        assert hear(relay.Probed).alive
        talk.send(orders.Stop(grace=0.0, reason="over already"))
        talk.send(orders.Forget(enter=""))
        hear(relay.Forgotten)
    finally:
        talk.close()
    told = [each.event for each in heard if isinstance(each, relay.HostEvent)]
    assert isinstance(told[0], events.AgentStarted)
    assert told[0].boot
    assert told[-1] == events.Ended(time=told[-1].time, left=0)
    (failed,) = [each for each in told if isinstance(each, events.RankExited)]
    assert failed.error is not None
    assert failed.error.type == "ValueError"
    assert failed.error.message.startswith("half a pair: \N{REPLACEMENT CHARACTER}xxx")
    assert not failed.told
    pieces = [each for each in heard if isinstance(each, relay.LogPiece) and each.name == "rank-0.log"]
    log = b"".join(each.data for each in pieces)
    assert log.startswith(b"out of the script\n")
    assert complete.logs["rank-0.log"].size == len(log)


def test_a_host_that_knows_nothing_of_a_run_says_so(tmp_path: Path) -> None:
    talk = session(tmp_path, run="another")
    try:
        talk.send(orders.Attach())
        assert any(isinstance(each, relay.Absent) for _, each in listen([talk], time.monotonic() + 60))
    finally:
        talk.close()


class Said:
    """A channel on which a host has said ``pieces``."""

    host = "h"

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.ended = False

    def receive(self) -> tuple[bytes, bytes]:
        return (self.pieces.pop(0) if self.pieces else b""), b""


def heard_from(*pieces: bytes) -> HostSession[relay.Reply]:
    return HostSession(cast(Any, Said(*pieces)), relay.replies)


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"is": "log"}',
        b'{"is": "log", "name": "../x", "offset": 0, "data": ""}',
        b'{"is": "log", "name": "/dev/zero", "offset": 0, "data": ""}',
        b'{"is": "complete", "logs": {"../x": {"size": 1, "sha256": ""}}}',
        b'{"is": "log", "name": "agent.log", "offset": -1, "data": ""}',
        b'{"is": "log", "name": "agent.log", "offset": 0, "data": "%%%"}',
        b'{"is": "absent", "reason": "\\ud800"}',
        b"\xff\xfe",
        b"null",
    ],
)
def test_what_is_no_message_ends_that_session_and_nothing_else(line: bytes) -> None:
    beat = MARK + b'{"is": "beat", "time": 1}\n'
    talk = heard_from(beat + MARK + line + b"\n" + beat, beat)
    assert talk.receive() == [relay.Heartbeat(time=1.0)]
    assert talk.ended
    assert "not a message" in talk.last_words
    assert talk.receive() == []


def test_a_line_without_an_end_ends_the_session() -> None:
    piece = b"x" * (1 << 20)
    talk = heard_from(*[piece] * 9)
    for _ in range(8):
        assert talk.receive() == []
        assert not talk.fault
    talk.receive()
    assert "more than 8 MiB" in talk.fault


def test_a_host_that_prints_without_end_ends_the_session() -> None:
    """In lines: none is too long, and none is a message."""
    piece = b"garbage\n" * (1 << 17)
    beat = MARK + b'{"is": "beat", "time": 1}\n'
    talk = heard_from(*[piece] * 8, beat, piece)
    for _ in range(8):
        assert talk.receive() == []
    assert talk.receive() == [relay.Heartbeat(time=1.0)]
    assert not talk.fault
    talk.receive()
    assert "printed more than 8 MiB" in talk.last_words
    assert talk.noise.startswith(b"garbage")
    assert len(talk.noise) == 64 << 10


def test_a_message_in_pieces_and_banners_around_it() -> None:
    talk = heard_from(b"Welcome\n>> @@cluster", b'ctl1 {"is": "be', b'at", "time": 1}\nbye')
    found: list[relay.Reply] = []
    for _ in range(3):
        found += talk.receive()
    assert found == [relay.Heartbeat(time=1.0)]
    assert talk.noise == b"Welcome\n>> "
    assert talk.received == 54


@pytest.mark.parametrize(
    "event",
    [
        b'{"event": "rank-exit"}',
        b'{"event": "end", "time": 1, "left": "none"}',
        b'{"event": "rank-exit", "time": "now", "rank": "none"}',
        b'{"event": "something else", "time": 1.0}',
        b"[]",
        b"7",
    ],
)
def test_an_event_that_is_none_does_not_end_the_session(event: bytes) -> None:
    found = relay.replies.decode(b'{"is": "event", "offset": 70, "event": ' + event + b"}")
    assert isinstance(found, relay.GarbledEvent)
    assert found.offset == 70
    assert found.why


def test_a_reply_that_is_none_does() -> None:
    for line in (b'{"is": "event", "event": {}}', b'{"is": "log", "offset": 1}', b"x", b'{"is": "event"'):
        with pytest.raises(Garbled):
            relay.replies.decode(line)

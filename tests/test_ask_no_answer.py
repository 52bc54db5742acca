"""Why a host gave no facts: what stands still on its link against what is gone."""

from __future__ import annotations

import socket

from clusterctl.ask.host_session import HostSession
from clusterctl.ask.no_answer import confirmed, ended, silent
from clusterctl.messages.examination import examination_answers
from clusterctl.transport.protocol import Failure
from clusterctl.transport.stuck import path_mtu, stuck
from tests.recorded_hosts import RecordedChannel
from tests.test_ask_pool import Breaking


class At(Breaking):
    """A transport whose hosts are at these addresses."""

    def __init__(self, addresses: dict[str, tuple[str, int]]) -> None:
        self.addresses = addresses

    def address_of(self, host: str) -> tuple[str, int] | None:
        return self.addresses.get(host)


def test_data_that_stands_still_is_the_path_s_fault_in_both_directions() -> None:
    channel = RecordedChannel("a", b"")
    session = HostSession(channel, examination_answers)
    assert silent("a", session, 60.0).stage == "deadline"
    channel.stuck = "answer"
    found = silent("a", session, 60.0)
    assert (found.stage, found.seconds) == ("path", 60.0) and "its answer" in found.message
    channel.stuck = "sent"
    assert "what is sent to it" in ended(session, 3.0).message
    session.fault = "it sent a line of more than 8 MiB"
    assert ended(session, 3.0).stage == "decode"
    channel.close()


def test_a_probe_that_somebody_killed_is_no_fault_of_the_start_up_files() -> None:
    channel = RecordedChannel("a", b"")
    session = HostSession(channel, examination_answers)
    channel.exit_code = 137
    assert (ended(session, 3.0).stage, "SIGKILL" in ended(session, 3.0).message) == ("decode", True)
    channel.exit_code = 3
    assert ended(session, 3.0).stage == "exec"
    channel.close()


def test_a_host_that_went_down_meanwhile_is_no_path_that_loses_large_packets() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        transport = At({"up": listener.getsockname(), "down": closed.getsockname()})
        failures = [path_mtu(host, "sent") for host in ("up", "down", "behind-a-gateway")]
        failures.append(Failure(host="other", stage="auth", message="", hint=""))
        changed = confirmed(transport, failures)
    assert list(changed) == ["down"]
    assert changed["down"].stage == "decode" and "went down" in changed["down"].message


def test_nothing_stands_still_on_a_healthy_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        with near, far:
            near.sendall(b"x" * 100_000)  # not read yet: the peer is slow, the path is not
            assert stuck(near) == stuck(far) == ""
        assert stuck(near) == ""
    one, other = socket.socketpair()
    with one, other:
        assert stuck(one) == ""
    assert stuck(object()) == ""

"""Bytes of TCP connections, as the kernel counts them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from clusterctl.node.observe.connections import Connections


@pytest.fixture
def talk() -> Iterator[int]:
    """The port of a server to which this process has sent 1,000 bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        peer, _ = server.accept()
        client.sendall(bytes(1000))
        assert peer.recv(1000, socket.MSG_WAITALL) == bytes(1000)
    yield port
    client.close()
    peer.close()


def counted(port: int = 0) -> tuple[int, int, int]:
    connections = Connections(port)
    connections.look()
    return (*connections.of(os.getpid()), connections.internet_of(os.getpid()))


def test_bytes_of_a_process_s_connections_are_counted_but_those_of_the_store(talk: int) -> None:
    all_sent, all_received, _ = counted()
    sent, received, _ = counted(talk)
    assert all_sent - sent in (1000, 1001)  # the kernel counts what opens a connection
    assert all_received - received == 1000


def test_connections_with_the_internet_are_counted_apart(talk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connections, "_is_foreign", lambda self, raw: True)
    sent, received, internet = counted()
    assert (sent, received) == (0, 0)
    assert internet >= 2000

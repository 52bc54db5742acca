"""Logging in to a server that has reasons not to let everybody in at once. The server is paramiko's own."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from clusterctl.errors import UsageError
from clusterctl.settings import SSH
from clusterctl.transport import connect, fabric, window
from clusterctl.transport.protocol import Channel, Failure
from tests.ssh_hosts import Login, key_pair, read_key

Greet = Callable[[int, socket.socket], bool]


class Server:
    """One sshd at one port. ``greet(number, connection)`` sees every connection first; False: it is closed.

    ``most`` is how many at once had connected but not logged in.
    """

    def __init__(self, folder: Path, greet: Greet) -> None:
        private, public = key_pair()
        (folder / "id").touch(mode=0o600)
        (folder / "id").write_text(private)
        host_private, host_public = key_pair()
        self.most = self.connections = 0
        self._logging_in = 0
        self._held: list[object] = []
        self._lock = threading.Lock()
        self._greet = greet
        self._public = public
        self._key = read_key(host_private)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        port = self._listener.getsockname()[1]
        (folder / "known").write_text(f"[127.0.0.1]:{port} {host_public}\n")
        self.config = folder / "config"
        self.config.write_text(
            f"Host n*\n  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {folder}/id\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known\n  StrictHostKeyChecking yes\n"
        )
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._logging_in += 1
                self.most = max(self.most, self._logging_in)
                number = self.connections
            threading.Thread(target=self._serve, args=(number, connection), daemon=True).start()

    def _serve(self, number: int, connection: socket.socket) -> None:
        login = Counted(self._public, self._let_in)
        try:
            if not self._greet(number, connection):
                connection.close()
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(self._key)
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):  # the client hung up
                transport.start_server(server=login)
                self._held.append(transport.accept(30))
        finally:
            if not login.inside:
                self._let_in()

    def _let_in(self) -> None:
        with self._lock:
            self._logging_in -= 1


class Counted(Login):
    """Tells when somebody has got in."""

    def __init__(self, public: str, on_login: Callable[[], None]) -> None:
        super().__init__(public)
        self.inside = False
        self._on_login = on_login

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        verdict = super().check_auth_publickey(username, key)
        if verdict == paramiko.common.AUTH_SUCCESSFUL and not self.inside:
            self.inside = True
            self._on_login()
        return verdict


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Greet], Server]]:
    """A server with this way to greet; pauses between tries are short."""
    monkeypatch.setattr(fabric, "SSH", replace(SSH, retry_pause=(0.01, 0.02)))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    servers: list[Server] = []

    def start(greet: Greet) -> Server:
        servers.append(Server(tmp_path, greet))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def opened(server: Server, count: int) -> list[Channel | Failure]:
    transport = connect("fabric", server.config)
    names = [f"n{number}" for number in range(count)]
    try:
        return [found for _, found in transport.open_all(names, "true", time.monotonic() + 60)]
    finally:
        transport.close()


def test_names_of_one_sshd_log_in_a_few_at_a_time(serve: Callable[[Greet], Server]) -> None:
    server = serve(lambda number, connection: True)
    found = opened(server, 30)
    assert not [each for each in found if isinstance(each, Failure)]
    assert server.connections == 30
    assert 1 < server.most <= SSH.logins_per_address


def test_a_drop_before_the_greeting_is_tried_again(serve: Callable[[Greet], Server]) -> None:
    server = serve(lambda number, connection: number > SSH.retries)
    (found,) = opened(server, 1)
    assert not isinstance(found, Failure)
    assert server.connections == SSH.retries + 1


def test_a_server_that_always_hangs_up_is_left_alone(serve: Callable[[Greet], Server]) -> None:
    server = serve(lambda number, connection: False)
    (found,) = opened(server, 1)
    assert isinstance(found, Failure)
    assert found.stage == "dropped"
    assert server.connections == SSH.retries + 1


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (b"Not allowed at this time\r\n", "a penalty for earlier ones", "PerSourcePenaltyExemptList"),
        (b"Exceeded MaxStartups\r\n", "“Exceeded MaxStartups”", "raise MaxStartups"),
    ],
)
def test_what_sshd_says_instead_of_a_greeting_is_told(
    serve: Callable[[Greet], Server], said: bytes, message: str, hint: str
) -> None:
    def greet(number: int, connection: socket.socket) -> bool:
        connection.recv(4096)  # else the end would be a reset, which swallows what was said
        connection.sendall(said)
        return False

    (found,) = opened(serve(greet), 1)
    assert isinstance(found, Failure)
    assert found.stage == "dropped"
    assert message in found.message
    assert hint in found.hint


def test_a_key_that_is_refused_is_offered_once(serve: Callable[[Greet], Server], tmp_path: Path) -> None:
    """Each failed login adds to a penalty."""
    server = serve(lambda number, connection: True)
    (tmp_path / "id").write_text(key_pair()[0])
    (found,) = opened(server, 1)
    assert isinstance(found, Failure)
    assert found.stage == "auth"
    assert server.connections == 1


def test_nothing_stays_open_of_logins_that_failed(serve: Callable[[Greet], Server], tmp_path: Path) -> None:
    server = serve(lambda number, connection: number % 2 == 0)
    opened(server, 4)
    (tmp_path / "known").write_text("")
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - how many, not which
    assert all(isinstance(each, Failure) for each in opened(server, 12))
    deadline = time.monotonic() + 30
    while len(os.listdir("/dev/fd")) > before and time.monotonic() < deadline:  # noqa: PTH208
        time.sleep(0.05)  # the server's side of it ends in threads of its own
    assert len(os.listdir("/dev/fd")) <= before  # noqa: PTH208


def test_more_hosts_than_files_may_be_open_are_refused_before_anybody_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = [(256, 1024)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.append(both))
    window.allow_descriptors(100, 2, 50)
    soft, hard = limits[-1]
    assert 256 < soft < hard == 1024
    window.allow_descriptors(100, 2, 50)
    assert len(limits) == 2, "it is high enough now"
    with pytest.raises(UsageError, match="2000 hosts at once need some") as refused:
        window.allow_descriptors(2000, 2, 256)
    fits = int(refused.value.hint.partition("--nodes ")[2].partition(")")[0])
    window.allow_descriptors(fits, 2, 256)

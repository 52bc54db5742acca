"""What goes wrong on the way to a host, made for real, is told with its cure; over both transports."""

from __future__ import annotations

import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusterctl.sandbox import HostSpec, Sandbox
from clusterctl.transport import Failure, Kind, connect

pytestmark = pytest.mark.sandbox
KINDS: tuple[Kind, ...] = ("fabric", "openssh")
Fail = Callable[..., Failure]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def fail(kind: Kind, sandbox: Sandbox, tmp_path: Path) -> Fail:
    """``fail(host, options)``: the failure of one host whose ssh_config has these options first."""

    def run(host: str, options: str = "", *, limit: float = 30.0, hosts: str = "") -> Failure:
        config = tmp_path / "config"
        config.write_text(f"Host {host}\n{options}\n{hosts}\nHost *\n  Include {sandbox.ssh_config}\n")
        transport = connect(kind, config)
        try:
            found = transport.open(host, "true", time.monotonic() + limit)
        finally:
            transport.close()
        assert isinstance(found, Failure)
        assert found.host == host
        assert found.hint
        return found

    return run


def test_a_name_nobody_knows(fail: Fail) -> None:
    found = fail("nosuch.invalid")
    assert found.stage == "resolve"
    assert "nosuch.invalid" in found.message


def test_a_closed_port(fail: Fail) -> None:
    found = fail("node1", "  Port 9\n  ProxyCommand none\n  HostName 127.0.0.1")
    assert found.stage == "connect"
    assert "127.0.0.1 port 9 refuses the connection" in found.message


def test_a_firewall_that_drops(kind: Kind, make_sandbox: Callable[..., Sandbox]) -> None:
    box = make_sandbox([HostSpec("walled")])
    if "ProxyCommand" in box.ssh_config.read_text():
        pytest.skip("an ordinary user's sandbox is not reached over the network")
    box.host("walled").block("in", "drop")
    transport = connect(kind, box.ssh_config)
    found = transport.open("walled", "true", time.monotonic() + 60)
    assert isinstance(found, Failure)
    assert found.stage == "connect"
    assert "no answer from" in found.message
    transport.close()


def test_an_unknown_host_key(fail: Fail, tmp_path: Path) -> None:
    known = tmp_path / "known hosts"
    known.touch()
    found = fail("node1", f'  UserKnownHostsFile "{known}"\n  StrictHostKeyChecking no')
    assert found.stage == "hostkey"
    assert "unknown" in found.message
    assert known.read_text() == ""


def test_the_cure_for_an_unknown_key_cures_it(
    sandbox: Sandbox, fail: Fail, kind: Kind, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    options = f"  UserKnownHostsFile {known}"
    found = fail("node1", options)
    cure = found.hint.partition("then: ")[2]
    if not cure.startswith("ssh-keyscan"):
        pytest.skip("behind a ProxyCommand the cure asks a person")
    subprocess.run(cure, shell=True, check=True, capture_output=True)
    transport = connect(kind, tmp_path / "config")
    assert not isinstance(transport.open("node1", "true", time.monotonic() + 30), Failure)
    transport.close()


def test_accept_new_writes_the_key_down_once(kind: Kind, sandbox: Sandbox, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    config = tmp_path / "config"
    config.write_text(
        f"Host node1\n  UserKnownHostsFile {known}\n  StrictHostKeyChecking accept-new\n"
        f"Host *\n  Include {sandbox.ssh_config}\n"
    )
    for _ in range(2):
        transport = connect(kind, config)
        assert not isinstance(transport.open("node1", "true", time.monotonic() + 30), Failure)
        transport.close()
    assert len(known.read_text().splitlines()) == 1


def test_a_changed_host_key(fail: Fail, sandbox: Sandbox, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    wrong = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    known = tmp_path / "known_hosts"
    lines = [line.split() for line in sandbox.known_hosts.read_text().splitlines()]
    known.write_text("".join(f"{words[0]} {wrong}\n" for words in lines))
    found = fail("node1", f"  UserKnownHostsFile {known}")
    assert found.stage == "hostkey"
    assert "has changed" in found.message
    remove = found.hint.partition(": ")[2].partition(";")[0]
    subprocess.run(shlex.split(remove), check=True, capture_output=True)
    assert "unknown" in fail("node1", f"  UserKnownHostsFile {known}").message


def test_a_key_the_host_does_not_know(kind: Kind, sandbox: Sandbox, tmp_path: Path) -> None:
    key = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    found = only_key(kind, sandbox, tmp_path, key)
    assert found.stage == "auth"
    assert str(key) in found.message
    assert "ssh-copy-id" in found.hint


def test_a_key_that_others_may_read(kind: Kind, sandbox: Sandbox, tmp_path: Path) -> None:
    key = tmp_path / "open-to-all"
    key.write_bytes((sandbox.ssh_config.parent / "id_ed25519").read_bytes())
    key.chmod(0o644)
    found = only_key(kind, sandbox, tmp_path, key)
    assert found.stage == "auth"
    assert f"{key} has mode 0644, which ssh refuses" in found.message
    assert found.hint.startswith(f"chmod 600 {key}")


def test_a_configuration_that_ssh_refuses(fail: Fail, tmp_path: Path) -> None:
    found = fail("node1", "  Foo bar")
    assert found.message == f"{tmp_path / 'config'} line 2: Bad configuration option: foo"


def test_an_encrypted_key_without_an_agent(
    kind: Kind, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(key)], check=True)
    found = only_key(kind, sandbox, tmp_path, key)
    assert found.stage == "auth"
    if kind == "fabric":
        assert "passphrase" in found.message
        assert f"ssh-add {key}" in found.hint


def test_an_agent_holds_the_key(kind: Kind, sandbox: Sandbox, tmp_path: Path) -> None:
    started = subprocess.run(
        ["ssh-agent", "-a", str(tmp_path / "agent"), "-s"], capture_output=True, text=True, check=True
    )
    pid = int(started.stdout.partition("SSH_AGENT_PID=")[2].partition(";")[0])
    try:
        agent = {"SSH_AUTH_SOCK": str(tmp_path / "agent"), "PATH": "/usr/bin:/bin"}
        identity = sandbox.ssh_config.parent / "id_ed25519"
        subprocess.run(["ssh-add", "-q", str(identity)], env=agent, check=True)
        config = tmp_path / "config"
        text = "".join(
            line for line in sandbox.ssh_config.read_text().splitlines(keepends=True)
            if "IdentityFile" not in line and "IdentitiesOnly" not in line
        )  # fmt: skip
        config.write_text(
            f"Host *\n  IdentityAgent {tmp_path / 'agent'}\n  IdentityFile /nonexistent\n{text}"
        )
        transport = connect(kind, config)
        found = list(transport.open_all(["node1", "node2", "node3", "node4"], "true", time.monotonic() + 30))
        assert [host for host, opened in found if isinstance(opened, Failure)] == []
        transport.close()
    finally:
        subprocess.run(["kill", str(pid)], check=True)


@pytest.fixture
def impostor() -> Iterator[Callable[[bytes | None], int]]:
    """``impostor(greeting)``: a port that says this to everybody; None: nothing, but holds the line."""
    held: list[socket.socket] = []

    def listen(greeting: bytes | None) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        held.append(server)

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                if greeting is None:
                    held.append(client)
                else:
                    client.sendall(greeting)
                    client.close()

        threading.Thread(target=serve, daemon=True).start()
        return int(server.getsockname()[1])

    yield listen
    for one in held:
        one.close()


def test_a_server_that_closes_before_its_greeting(
    fail: Fail, impostor: Callable[[bytes | None], int]
) -> None:
    found = fail("x", f"  HostName 127.0.0.1\n  Port {impostor(b'')}")
    assert found.stage == "dropped"
    assert "MaxStartups" in found.hint


def test_a_server_that_says_nothing(fail: Fail, impostor: Callable[[bytes | None], int]) -> None:
    found = fail("x", f"  HostName 127.0.0.1\n  Port {impostor(None)}\n  ConnectTimeout 5", limit=3.0)
    assert found.stage in ("banner", "deadline")


def test_a_gateway_that_is_down(fail: Fail) -> None:
    hosts = "Host bastion\n  HostName 127.0.0.1\n  Port 9\n"
    found = fail("node1", "  ProxyJump bastion\n  ProxyCommand none", hosts=hosts)
    assert found.stage == "connect"
    assert "gateway bastion" in found.message


def test_a_proxy_command_that_fails(fail: Fail) -> None:
    found = fail("x", "  HostName 127.0.0.1\n  ProxyCommand /bin/false")
    assert found.stage == "connect"
    assert "/bin/false" in found.hint


def only_key(kind: Kind, sandbox: Sandbox, tmp_path: Path, key: Path) -> Failure:
    """The failure of node1 with ``key`` alone: ssh adds up every IdentityFile it finds, so the rest goes."""
    lines = sandbox.ssh_config.read_text().splitlines(keepends=True)
    text = "".join(line for line in lines if "IdentityFile" not in line)
    config = tmp_path / "one_key"
    config.write_text(f"Host *\n  IdentityFile {key}\n  IdentitiesOnly yes\n{text}")
    transport = connect(kind, config)
    found = transport.open("node1", "true", time.monotonic() + 30)
    transport.close()
    assert isinstance(found, Failure)
    return found

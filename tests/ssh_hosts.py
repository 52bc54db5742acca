"""Any number of hosts with SSH servers of their own, on loopback addresses, played by a few processes.

They take one key. To whatever command they are to run they answer as the program that was sent would: `top`
with what they do, again and again, any other with the facts that this machine's own probe told, under another
name. So a controller can be tried with a thousand hosts.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import resource
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clusterctl.ask.bundle import _BOOT
from clusterctl.ask.facts import FactsRequest, _Openings
from clusterctl.ask.host_session import MARK
from clusterctl.messages.top import HostSeen

_PROCESSES = 2


@dataclass(frozen=True)
class Played:
    """What one process plays, all by host. ``hold`` sessions must stand before any of them is answered."""

    names: list[str]
    addresses: list[str]
    key: str
    host_keys: list[str]
    facts: dict[str, Any]
    hold: int


class SshHosts:
    """A context manager: ``hostfile`` and ``ssh_config`` lead to the hosts n0000, n0001 ... while it is open.

    Each has an address and a host key of its own. Nobody is answered before ``hold`` sessions stand.
    """

    def __init__(self, count: int, folder: Path, *, hold: int = 0) -> None:
        self.names = [f"n{number:04}" for number in range(count)]
        self.hostfile = folder / "hostfile"
        self.ssh_config = folder / "ssh_config"
        self.known_hosts = folder / "known_hosts"
        self._folder = folder
        self._hold = hold
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> SshHosts:
        client, public = key_pair()
        (self._folder / "id").touch(mode=0o600)
        (self._folder / "id").write_text(client)
        facts, config, known = probed(), [], []
        addresses = [f"127.77.{number >> 8}.{number & 255}" for number in range(len(self.names))]
        keys = [key_pair() for _ in self.names]
        try:
            for part in range(_PROCESSES):
                mine = range(part, len(self.names), _PROCESSES)
                played = Played(
                    names=[self.names[k] for k in mine],
                    addresses=[addresses[k] for k in mine],
                    key=public,
                    host_keys=[keys[k][0] for k in mine],
                    facts=facts,
                    hold=self._hold // _PROCESSES,
                )
                port = self._start(played)
                for k in mine:
                    config.append(f"Host {self.names[k]}\n  HostName {addresses[k]}\n  Port {port}\n")
                    known.append(f"[{addresses[k]}]:{port} {keys[k][1]}\n")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.hostfile.write_text("".join(f"{name} slots=1\n" for name in self.names))
        self.known_hosts.write_text("".join(known))
        self.ssh_config.write_text(
            "".join(config)
            + f"Host *\n  User root\n  IdentityFile {self._folder}/id\n  IdentitiesOnly yes\n"
            + f"  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
            + "  StrictHostKeyChecking yes\n"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    @property
    def pids(self) -> list[int]:
        """Of the processes that play: each all whose numbers leave one remainder."""
        return [process.pid for process in self._processes]

    def _start(self, played: Played) -> int:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.ssh_hosts"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        self._processes.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asdict(played)) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())


def probed() -> dict[str, Any]:
    """What this machine's probe tells of it."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BOOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(_Openings(FactsRequest(quick=True)).of("n"))
        process.stdin.flush()
        line = process.stdout.readline()
    facts: dict[str, Any] = json.loads(line.partition(MARK)[2])["facts"]
    return facts


def renamed(facts: dict[str, Any], name: str, address: str) -> dict[str, Any]:
    """The facts of another host: what is a machine's own is its own."""
    told: dict[str, Any] = json.loads(json.dumps(facts))
    told |= {"hostname": name, "machine_id": name, "boot_id": name, "ssh_address": address}
    networks = itertools.count(77)
    for link in told["interfaces"]:
        link["addresses"] = [
            {**each, "address": address.replace("127.77", f"10.{next(networks)}")}
            for each in link["addresses"]
            if each["family"] == "inet" and each["scope"] == "global"
        ] + [each for each in link["addresses"] if each["scope"] == "host"]
    return told


def key_pair() -> tuple[str, str]:
    """(private key, what a line of known_hosts says of it)."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()


def read_key(private: str) -> paramiko.PKey:
    """The key of which `key_pair` gave the private half."""
    return paramiko.Ed25519Key(file_obj=io.StringIO(private))


class Login(paramiko.ServerInterface):
    """Lets one key in and runs anything."""

    def __init__(self, public: str) -> None:
        self._public = public

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        mine = f"{key.get_name()} {key.get_base64()}" == self._public
        return paramiko.common.AUTH_SUCCESSFUL if mine else paramiko.common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        return True


class _Hosts:
    """The hosts of one process."""

    def __init__(self, played: Played) -> None:
        self._played = played
        self._keys = [read_key(text) for text in played.host_keys]
        self._standing = 0
        self._changed = threading.Condition()

    def serve(self, listeners: Sequence[socket.socket]) -> None:
        selector = selectors.DefaultSelector()
        for number, listener in enumerate(listeners):
            selector.register(listener, selectors.EVENT_READ, number)
        while True:
            for ready, _ in selector.select():
                connection, _ = listeners[ready.data].accept()
                threading.Thread(target=self._serve_one, args=(connection, ready.data), daemon=True).start()

    def _serve_one(self, connection: socket.socket, number: int) -> None:
        transport = paramiko.Transport(connection)
        transport.add_server_key(self._keys[number])
        try:
            transport.start_server(threading.Event(), Login(self._played.key))
            channel = transport.accept(600)
            if channel is not None:
                self._answer(channel, number)
        except (paramiko.SSHException, EOFError, OSError):
            pass  # the controller hung up: that is how every session ends
        finally:
            transport.close()

    def _answer(self, channel: paramiko.Channel, number: int) -> None:
        stream = channel.makefile("rb")
        program = stream.read(int(stream.readline() or 0))
        reads_first = re.findall(rb"stdin\.buffer\.read\((\d+)\)", program)
        sent = stream.read(int(reads_first[-1]) if reads_first else 0)
        if reads_first and (parts := json.loads(sent))["main"] == "top":
            self._tell_what_it_does(channel, parts["request"]["every"])
            return
        with self._changed:
            self._standing += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._standing >= self._played.hold)
        facts = renamed(self._played.facts, self._played.names[number], self._played.addresses[number])
        self._say(channel, {"is": "facts", "facts": facts})
        for line in _lines(stream):
            message = json.loads(line)
            if message["do"] == "ping":
                self._say(channel, {"is": "pong", "sent": message["sent"], "time": message["sent"]})
            elif message["do"] == "listen":
                self._say(channel, {"is": "listening", "listeners": [], "master_port": 29500})

    def _tell_what_it_does(self, channel: paramiko.Channel, every: float) -> None:
        for number in itertools.count():
            seen = HostSeen(time=time.time(), cores=8, load=1.0, cpu=number % 10 / 10)
            self._say(channel, msgspec.to_builtins(seen))
            time.sleep(every)

    @staticmethod
    def _say(channel: paramiko.Channel, message: dict[str, Any]) -> None:
        channel.sendall(MARK + json.dumps(message).encode() + b"\n")


def _lines(stream: Any) -> Iterator[bytes]:
    while line := stream.readline():
        yield line


def main() -> None:
    """Play until killed; the port goes to stdout."""
    played = Played(**json.loads(sys.stdin.readline()))
    paramiko.Transport._active_check_timeout = 60.0  # type: ignore[attr-defined] # a thousand threads that wake ten times a second
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listeners: list[socket.socket] = []
    while len(listeners) < len(played.addresses):
        for listener in listeners:
            listener.close()
        listeners = [socket.create_server((played.addresses[0], 0))]
        port = listeners[0].getsockname()[1]
        with contextlib.suppress(OSError):  # somebody has this port on one of the addresses: another, then
            listeners += [socket.create_server((each, port)) for each in played.addresses[1:]]
    print(port, flush=True)
    _Hosts(played).serve(listeners)


if __name__ == "__main__":
    main()

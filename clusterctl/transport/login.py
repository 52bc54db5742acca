"""One login on a byte stream: key exchange, host key, authentication."""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import paramiko

from clusterctl.settings import SSH
from clusterctl.transport import failures
from clusterctl.transport.endpoint import Endpoint
from clusterctl.transport.identities import Identities, read_key
from clusterctl.transport.known_hosts import KnownHosts, fingerprint
from clusterctl.transport.link import Link, Stream
from clusterctl.transport.places import Places
from clusterctl.transport.protocol import Failure
from clusterctl.transport.stuck import no_key, path_mtu, takes_connections
from clusterctl.transport.watchdog import Watchdog

# paramiko logs whole tracebacks for what becomes a Failure here.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_FIRST_WORD = 2.0
_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")
# One pass over each packet, where CTR needs a second one for the MAC and a comparison in Python.
_FIRST_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


class Client(Protocol):
    """What logs in: paramiko's client, or fabric's connection around one."""

    @property
    def client(self) -> paramiko.SSHClient: ...

    def open(self, **options: Any) -> None:
        """Log in; ``options`` are those of `paramiko.SSHClient.connect`."""
        ...


class _PlainClient:
    def __init__(self, endpoint: Endpoint) -> None:
        self.client = paramiko.SSHClient()
        self._endpoint = endpoint

    def open(self, **options: Any) -> None:
        at = self._endpoint
        self.client.connect(at.hostname, at.port, at.user, **options)


class _GatewayClient:
    def __init__(self, endpoint: Endpoint) -> None:
        import fabric

        self._connection = fabric.Connection(
            host=endpoint.hostname,
            user=endpoint.user,
            port=endpoint.port,
            # An empty SSHConfig: `ssh -G` has answered already, and paramiko's parser knows no Include.
            # Not shared: a Connection writes into its Config, which empties itself for a moment.
            config=fabric.Config(ssh_config=paramiko.SSHConfig(), lazy=True),
        )
        self.client: paramiko.SSHClient = self._connection.client

    def open(self, **options: Any) -> None:
        self._connection.connect_kwargs = options
        self._connection.open()


def plain_client(endpoint: Endpoint) -> Client:
    """For a host: nothing but paramiko."""
    return _PlainClient(endpoint)


def gateway_client(endpoint: Endpoint) -> Client:
    """For a gateway: fabric's connection."""
    return _GatewayClient(endpoint)


class Login:
    """Logs in. Keys and known_hosts are read once and shared."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._lock = threading.Lock()
        self._handshakes = Places(SSH.handshakes)
        self._known_hosts: dict[tuple[Path, ...], KnownHosts] = {}
        self._keys: dict[Path, paramiko.PKey | failures.Unusable] = {}

    def run(self, endpoint: Endpoint, stream: Stream, deadline: float, login: Client) -> Link | Failure:
        """A logged-in connection over a fresh stream, which is closed on failure."""
        # Whoever has yet to speak costs nothing, and takes no place from those who have.
        if not _speaks(stream, min(_FIRST_WORD, deadline - time.monotonic())):
            return self._shake_hands(endpoint, stream, deadline, login)
        with self._handshakes.one(deadline) as granted:
            if granted:
                return self._shake_hands(endpoint, stream, deadline, login)
        stream.close()
        return failures.late(endpoint, "the wait for the logins of other hosts")

    def _shake_hands(
        self, endpoint: Endpoint, stream: Stream, deadline: float, login: Client
    ) -> Link | Failure:
        policy = _HostKeyCheck(endpoint, self._files(endpoint))
        strategy = Identities(endpoint, self._load_key, deadline)
        began = time.monotonic()
        left = max(0.1, deadline - began)
        login.client.set_missing_host_key_policy(policy)
        link = Link(login.client, stream)

        def make_transport(sock: Any, **options: Any) -> paramiko.Transport:
            link.transport = transport = policy.make_transport(sock, **options)
            return transport

        try:
            with self._watchdog.guard(deadline, link.close):
                login.open(
                    sock=stream.socket,
                    timeout=left,
                    banner_timeout=min(SSH.banner_timeout, left),
                    auth_timeout=min(SSH.auth_timeout, left),
                    auth_strategy=strategy,
                    transport_factory=make_transport,
                )
        except (paramiko.SSHException, EOFError, OSError, ValueError) as error:
            link.close()
            if policy.refusal is not None:
                return policy.refusal
            if link.stuck and takes_connections((endpoint.hostname, endpoint.port), SSH.connect_timeout):
                return path_mtu(endpoint.name, link.stuck)
            if time.monotonic() >= deadline:
                known = bool(link.transport and link.transport.initial_kex_done)
                return failures.late(endpoint, "the login") if known else no_key(endpoint)
            if isinstance(error, paramiko.AuthenticationException) or strategy.tried:
                return failures.refused_login(endpoint, strategy.tried, strategy.unusable)
            return failures.unfinished_handshake(endpoint, error, time.monotonic() - began, policy.greeting)
        except BaseException:
            link.close()
            raise
        if not link.transport.is_authenticated():
            link.close()
            return failures.second_factor(endpoint)
        link.transport.set_keepalive(int(SSH.keepalive))
        # paramiko's thread wakes so often although nothing has come. 0.1 s, its own choice, is a third of a
        # core for a thousand hosts.
        stream.socket.settimeout(SSH.keepalive / 3)
        return link

    def _files(self, endpoint: Endpoint) -> KnownHosts:
        files = endpoint.user_known_hosts + endpoint.global_known_hosts
        with self._lock:
            if files not in self._known_hosts:
                self._known_hosts[files] = KnownHosts(files)
            return self._known_hosts[files]

    def _load_key(self, file: Path) -> paramiko.PKey | failures.Unusable | None:
        """The key in ``file``, or why it cannot be used; None where there is no file."""
        with self._lock:
            if file not in self._keys and file.exists():
                self._keys[file] = read_key(file)
            return self._keys.get(file)


def _speaks(stream: Stream, timeout: float) -> bool:
    """Whether the server has said something within ``timeout`` seconds, as sshd does at once."""
    if not isinstance(stream.socket, socket.socket):
        return True  # a channel through a gateway, whose descriptors are made for each question
    heard = select.poll()
    heard.register(stream.socket, select.POLLIN)
    return bool(heard.poll(1000 * max(0.0, timeout)))


class _HostKeyCheck(paramiko.MissingHostKeyPolicy):
    """Judges every host key. Clients know no keys, so paramiko asks here about each of them."""

    def __init__(self, endpoint: Endpoint, known: KnownHosts) -> None:
        self.refusal: Failure | None = None
        self.greeting: list[str] = []
        """Lines from the server before anything is encrypted; sshd's reason for a refusal is one of them."""
        self._endpoint = endpoint
        self._known = known

    def make_transport(self, sock: Any, **options: Any) -> paramiko.Transport:
        """A transport that asks the server for a key of a type we have on file, as ssh does."""
        transport = paramiko.Transport(sock, **options)
        security = transport.get_security_options()
        wanted: list[str] = []
        for key_type in self._known.key_types(self._endpoint.key_names):
            wanted += _RSA_SIGNATURES if key_type == "ssh-rsa" else [key_type]
        ours = [key_type for key_type in wanted if key_type in security.key_types]
        security.key_types = (*ours, *(other for other in security.key_types if other not in ours))
        first = [cipher for cipher in _FIRST_CIPHERS if cipher in security.ciphers]
        security.ciphers = (*first, *(other for other in security.ciphers if other not in first))
        read_line = transport.packetizer.readline

        def hear_line(timeout: float) -> str:
            line: str = read_line(timeout)
            self.greeting.append(line)
            return line

        transport.packetizer.readline = hear_line  # type: ignore[method-assign]
        return transport

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        endpoint, blob, key_type = self._endpoint, key.asbytes(), key.get_name()
        verdict, entry = self._known.judge(endpoint.key_names, key_type, blob)
        if verdict == "known":
            return
        if verdict == "unknown" and entry is None and endpoint.strict_host_keys == "accept-new":
            try:
                self._known.add(
                    endpoint.user_known_hosts[0],
                    endpoint.key_names[0],
                    key_type,
                    blob,
                    hashed=endpoint.hash_known_hosts,
                )
                return
            except (OSError, IndexError) as error:
                self.refusal = failures.failure(
                    endpoint,
                    "hostkey",
                    f"the new host key of {endpoint.address} cannot be written down: {error}",
                )
                raise paramiko.SSHException("host key not saved") from error
        self.refusal = failures.bad_host_key(endpoint, verdict, entry, key_type, fingerprint(blob))
        raise paramiko.SSHException("host key refused")

"""The default transport: fabric's connections, raw paramiko channels.

fabric logs in: its `Connection` carries user, port, stream and timeouts to paramiko, and its hook for
authentication strategies offers keys in ssh's order. The rest is paramiko itself. Configuration is what
`ssh -G` says: paramiko's parser, which fabric uses, does not know all of Include and Match. One connection
to a gateway is shared by all hosts behind it, where fabric opens one for each. A command runs on a raw
channel: `Connection.run` has three threads per host, one of which polls 100 times a second, and no deadline
for a write that is stuck.
"""

from __future__ import annotations

import logging
import random
import time
from pathlib import Path
from typing import Any

import fabric
import msgspec
import paramiko
from paramiko.common import cMSG_CHANNEL_WINDOW_ADJUST

from clusterctl.settings import SSH
from clusterctl.transport import failures, sockets
from clusterctl.transport.base import BaseTransport
from clusterctl.transport.channel import FabricChannel
from clusterctl.transport.endpoint import Endpoint, parse_hop
from clusterctl.transport.gateway import Gateway
from clusterctl.transport.identities import Identities, read_key
from clusterctl.transport.known_hosts import KnownHosts, fingerprint
from clusterctl.transport.link import Link, Stream, Tunnel
from clusterctl.transport.protocol import Failure
from clusterctl.transport.watchdog import Watchdog

# paramiko logs whole tracebacks for what becomes a Failure here.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")


class FabricTransport(BaseTransport):
    """`Transport` in this process. Endpoints, keys, known_hosts and gateways are made once and shared."""

    descriptors_per_host = 4

    def __init__(self, config: Path | None) -> None:
        super().__init__(config)
        self._known_hosts: dict[tuple[Path, ...], KnownHosts] = {}
        self._keys: dict[Path, paramiko.PKey | failures.Unusable] = {}
        self._gateways: dict[tuple[str, ...], Gateway] = {}
        self._watchdog = Watchdog()

    def _close_gateways(self) -> None:
        with self._lock:
            gateways = list(self._gateways.values())
            self._gateways.clear()
        for gateway in gateways:
            gateway.close()

    def _open(self, host: str, command: str, deadline: float) -> FabricChannel | Failure:
        began = time.monotonic()
        endpoint = self._endpoints.get(host, deadline)
        if isinstance(endpoint, Failure):
            return endpoint
        link = self._link(endpoint, deadline)
        if isinstance(link, Failure):
            return link
        connected = time.monotonic() - began
        try:
            with self._watchdog.guard(deadline, link.close):
                raw = link.transport.open_session(timeout=max(0.1, deadline - time.monotonic()))
                channel = FabricChannel(host, link, raw, deadline, connected, self._watchdog, _allow)
                raw.exec_command(command)
        except (paramiko.SSHException, EOFError, OSError) as error:
            link.close()
            if time.monotonic() >= deadline:
                return failures.late(endpoint, "the start of the command")
            return failures.failure(
                endpoint,
                "exec",
                f"{endpoint.address} let {endpoint.user} in but started no command: {error}",
                f"a forced command, MaxSessions 0 or a broken login shell may forbid it; try: "
                f"{failures.ssh_command(endpoint, 'true')}",
            )
        return channel

    def _link(self, endpoint: Endpoint, deadline: float) -> Link | Failure:
        """A logged-in connection. What a retry can cure, a drop before the greeting, is tried once more."""
        for retries_left in range(SSH.retries, -1, -1):
            stream = self._stream(endpoint, deadline)
            if isinstance(stream, Failure):
                return stream
            link = self._log_in(endpoint, stream, deadline)
            pause = random.uniform(*SSH.retry_pause)
            dropped = isinstance(link, Failure) and link == failures.dropped_before_banner(endpoint)
            if not dropped or not retries_left or time.monotonic() + pause >= deadline:
                return link
            time.sleep(pause)
        raise AssertionError("the last round returns")

    def _stream(self, endpoint: Endpoint, deadline: float) -> Stream | Failure:
        timeout = endpoint.connect_timeout or SSH.connect_timeout
        jumps = tuple(hop for hop in endpoint.jumps if hop != endpoint.name)
        if jumps:
            return self._through(endpoint, jumps, min(deadline, time.monotonic() + timeout))
        if endpoint.proxy_command:
            try:
                stream, child = sockets.start_proxy(endpoint)
            except OSError as error:
                return failures.failure(endpoint, "connect", f"ProxyCommand cannot be started: {error}")
            with self._lock:
                self._children.add(child)
            return Stream(stream, child)
        connected = sockets.connect_tcp(endpoint, timeout, deadline)
        return connected if isinstance(connected, Failure) else Stream(connected)

    def _through(self, endpoint: Endpoint, jumps: tuple[str, ...], deadline: float) -> Stream | Failure:
        gateway = self._gateway(jumps)
        with gateway.slot(deadline) as granted:
            link = gateway.link(deadline) if granted else failures.late(endpoint, "the wait for the gateway")
            if isinstance(link, Failure):
                return failures.through(gateway.name, link, endpoint.name)
            try:
                with self._watchdog.guard(deadline + 1.0, gateway.close):
                    tunnel = link.transport.open_channel(
                        "direct-tcpip",
                        (endpoint.hostname, endpoint.port),
                        ("", 0),
                        timeout=max(0.1, deadline - time.monotonic()),
                    )
            except (paramiko.SSHException, EOFError, OSError) as error:
                detail = getattr(error, "text", "") or str(error) or "the connection broke"
                return failures.failure(
                    endpoint,
                    "connect",
                    f"the gateway {jumps[-1]} cannot reach {endpoint.address}: {detail}",
                    "check the address as the gateway sees it, sshd on the host, and AllowTcpForwarding "
                    "on the gateway",
                )
        return Stream(Tunnel(tunnel))

    def _gateway(self, jumps: tuple[str, ...]) -> Gateway:
        with self._lock:
            if jumps not in self._gateways:
                self._gateways[jumps] = Gateway(
                    jumps[-1], lambda deadline: self._open_gateway(jumps, deadline)
                )
            return self._gateways[jumps]

    def _open_gateway(self, jumps: tuple[str, ...], deadline: float) -> Link | Failure:
        """A connection to the last of ``jumps``, by way of those before it."""
        name, port = parse_hop(jumps[-1])
        endpoint = self._endpoints.get(name, deadline, port)
        if isinstance(endpoint, Failure):
            return endpoint
        if len(jumps) > 1:
            endpoint = msgspec.structs.replace(endpoint, jumps=jumps[:-1], proxy_command="")
        elif any(parse_hop(hop)[0].rpartition("@")[2] == name.rpartition("@")[2] for hop in endpoint.jumps):
            # `Host *` with a ProxyJump also matches the gateway; ssh does not jump to itself either.
            endpoint = msgspec.structs.replace(endpoint, jumps=())
        return self._link(endpoint, deadline)

    def _log_in(self, endpoint: Endpoint, stream: Stream, deadline: float) -> Link | Failure:
        """Key exchange, host key, authentication on a fresh stream, which is closed on failure."""
        policy = _HostKeyCheck(endpoint, self._files(endpoint))
        strategy = Identities(endpoint, self._load_key, deadline)
        began = time.monotonic()
        left = max(0.1, deadline - began)
        connection = fabric.Connection(
            host=endpoint.hostname,
            user=endpoint.user,
            port=endpoint.port,
            # An empty SSHConfig: `ssh -G` has answered already, and paramiko's parser knows no Include.
            # Not shared: a Connection writes into its Config, which empties itself for a moment.
            config=fabric.Config(ssh_config=paramiko.SSHConfig(), lazy=True),
            connect_kwargs={
                "sock": stream.socket,
                "timeout": left,
                "banner_timeout": min(SSH.banner_timeout, left),
                "auth_timeout": min(SSH.auth_timeout, left),
                "auth_strategy": strategy,
                "transport_factory": policy.make_transport,
            },
        )
        connection.client.set_missing_host_key_policy(policy)
        link = Link(connection, stream)
        try:
            with self._watchdog.guard(deadline, link.close):
                connection.open()
        except (paramiko.SSHException, EOFError, OSError, ValueError) as error:
            link.close()
            if policy.refusal is not None:
                return policy.refusal
            if time.monotonic() >= deadline:
                return failures.late(endpoint, "the login")
            if isinstance(error, paramiko.AuthenticationException) or strategy.tried:
                return failures.refused_login(endpoint, strategy.tried, strategy.unusable)
            return failures.unfinished_handshake(endpoint, error, time.monotonic() - began)
        if not link.transport.is_authenticated():
            link.close()
            return failures.second_factor(endpoint)
        link.transport.set_keepalive(int(SSH.keepalive))
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


def _allow(raw: Any, count: int) -> None:
    """Tell a host that it may send ``count`` bytes more; see `FabricChannel.receive`."""
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
    message.add_int(raw.remote_chanid)
    message.add_int(count)
    raw.transport._send_user_message(message)


class _HostKeyCheck(paramiko.MissingHostKeyPolicy):
    """Judges every host key. fabric's own clients know no keys, so paramiko asks here about each of them."""

    def __init__(self, endpoint: Endpoint, known: KnownHosts) -> None:
        self.refusal: Failure | None = None
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

"""The default transport: gateways are fabric's connections, everything else is paramiko itself.

Configuration is what `ssh -G` says: paramiko's parser, which fabric uses, does not know all of Include and
Match. One fabric `Connection` to a gateway is shared by all hosts behind it, where fabric opens one for each.
Hosts have none: it costs a fifth of the CPU of a login, for nothing that is used here. A command runs on a
raw channel: `Connection.run` has three threads per host, one of which polls 100 times a second, and no
deadline for a write that is stuck.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import paramiko
from paramiko.common import cMSG_CHANNEL_WINDOW_ADJUST

from clusterctl.settings import SSH
from clusterctl.transport import failures, sockets
from clusterctl.transport.base import BaseTransport
from clusterctl.transport.channel import FabricChannel
from clusterctl.transport.endpoint import Endpoint, parse_hop
from clusterctl.transport.gateway import Gateway
from clusterctl.transport.link import Link, Stream, Tunnel
from clusterctl.transport.login import Client, Login, gateway_client, plain_client
from clusterctl.transport.places import Places
from clusterctl.transport.protocol import Failure
from clusterctl.transport.watchdog import Watchdog


class FabricTransport(BaseTransport):
    """`Transport` in this process. Endpoints, keys, known_hosts and gateways are made once and shared."""

    descriptors_per_host = 2  # a socket, and what wakes whoever listens

    def __init__(self, config: Path | None) -> None:
        super().__init__(config)
        self._gateways: dict[tuple[str, ...], Gateway] = {}
        self._watchdog = Watchdog()
        self._login = Login(self._watchdog)
        self._places: dict[object, Places] = {}

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
        hang_up: Callable[[], None] = link.close
        try:
            with self._watchdog.guard(deadline, link.close):
                raw = link.transport.open_session(timeout=max(0.1, deadline - time.monotonic()))
                channel = FabricChannel(host, link, raw, deadline, connected, self._watchdog, _allow)
                hang_up = channel.close
                raw.exec_command(command)
        except (paramiko.SSHException, EOFError, OSError) as error:
            hang_up()
            if time.monotonic() >= deadline:
                return failures.late(endpoint, "the start of the command")
            if failures.is_ours(error):
                return failures.unconnected(endpoint, error, connected)
            return failures.failure(
                endpoint,
                "exec",
                f"{endpoint.address} let {endpoint.user} in but started no command: {error}",
                f"a forced command, MaxSessions 0 or a broken login shell may forbid it; try: "
                f"{failures.ssh_command(endpoint, 'true')}",
            )
        return channel

    def _link(
        self, endpoint: Endpoint, deadline: float, client: Callable[[Endpoint], Client] = plain_client
    ) -> Link | Failure:
        """A logged-in connection. A drop before the greeting is tried again, each time later."""
        retries = 1 if endpoint.proxy_command else SSH.retries
        for attempt in range(retries + 1):
            with self._places_at(endpoint).one(deadline) as granted:
                if not granted:
                    return failures.late(endpoint, f"the wait for other logins at {endpoint.address}")
                stream = self._stream(endpoint, deadline)
                if isinstance(stream, Failure):
                    return stream
                link = self._login.run(endpoint, stream, deadline, client(endpoint))
            pause = random.uniform(*SSH.retry_pause) * 2**attempt
            if (
                not isinstance(link, failures.Dropped)
                or attempt == retries
                or time.monotonic() + pause >= deadline
            ):
                return link
            time.sleep(pause)
        raise AssertionError("the last round returns")

    def _places_at(self, endpoint: Endpoint) -> Places:
        """Places for logins at this very sshd: MaxStartups drops more than ten not logged in yet."""
        way = (endpoint.jumps, endpoint.proxy_command, endpoint.hostname, endpoint.port)
        with self._lock:
            return self._places.setdefault(way, Places(SSH.logins_per_address))

    def _stream(self, endpoint: Endpoint, deadline: float) -> Stream | Failure:
        # A host that takes no connection leaves the other half of the time unused; one that is slow needs it.
        timeout = min(endpoint.connect_timeout or SSH.connect_timeout, (deadline - time.monotonic()) / 2)
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
        with gateway.sessions.one(deadline) as granted:
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
        return self._link(endpoint, deadline, gateway_client)


def _allow(raw: Any, count: int) -> None:
    """Tell a host that it may send ``count`` bytes more; see `FabricChannel.receive`."""
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
    message.add_int(raw.remote_chanid)
    message.add_int(count)
    raw.transport._send_user_message(message)

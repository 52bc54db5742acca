"""Where the server listens, and how it runs until it is told to end."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from types import FrameType

import msgspec
import uvicorn

from clusterctl.errors import UsageError
from clusterctl.serve.access import Access
from clusterctl.serve.app import Pages

PORT = 8642
_TRIED = 50
"""Ports, from `PORT` on, where none was asked for."""
_CONNECTIONS = 256
_VANISHED = 90
"""Seconds after which the kernel gives up one who takes nothing that was sent."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """An address to listen at. ``host`` is how others write it."""

    listener: socket.socket
    host: str
    port: int
    own: bool
    """Only this machine itself reaches it."""

    def names(self) -> frozenset[str]:
        """Of this machine, as others may call it; none where others do not reach it."""
        told = () if self.own else (self.host, socket.gethostname(), socket.getfqdn())
        return frozenset(each.strip("[]").lower() for each in told)


def listen(bind: str, port: int | None) -> Place:
    """Raises UsageError where nobody can listen there."""
    try:
        family, _, _, _, address = socket.getaddrinfo(bind, port or PORT, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"--bind {bind}: {error.strerror}", hint="an address of this machine") from error
    ports = range(PORT, PORT + _TRIED) if port is None else (port,)
    for each in ports:
        try:
            listener = _listener(family, str(address[0]), each)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UsageError(
                    f"{bind} port {each} cannot be listened at: {error.strerror}",
                    hint="--bind an address of this machine, and a --port above 1023",
                ) from error
            continue
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
        host = socket.gethostname() if ip.is_unspecified else f"[{ip}]" if ip.version == 6 else str(ip)
        return Place(listener=listener, host=host, port=listener.getsockname()[1], own=ip.is_loopback)
    taken = f"port {port} is" if port is not None else f"ports {ports[0]} to {ports[-1]} are"
    raise UsageError(f"{taken} taken by another program", hint="leave out --port: a free one is found")


def _listener(family: int, host: str, port: int) -> socket.socket:
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _VANISHED * 1000)
        found.bind((host, port))
        found.listen(128)
    except OSError:
        found.close()
        raise
    return found


def serve(place: Place, access: Access) -> None:
    """Until SIGINT or SIGTERM, which its caller then gets as well."""
    pages = Pages(access)
    config = uvicorn.Config(
        pages,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    _Server(config, pages).run(sockets=[place.listener])


class _Server(uvicorn.Server):
    """Sleeps until something happens, and ends what would go on for ever."""

    def __init__(self, config: uvicorn.Config, pages: Pages) -> None:
        super().__init__(config)
        self._pages = pages
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None

    async def main_loop(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        await self.on_tick(0)
        if not self.should_exit:
            await self._ended.wait()
        self._pages.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._loop is not None and self._ended is not None:
            self._loop.call_soon_threadsafe(self._ended.set)

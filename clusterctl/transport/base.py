"""What both transports do alike: one endpoint for each host, one book of open channels, one way to end."""

from __future__ import annotations

import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import ClassVar, Protocol, cast

import msgspec

from clusterctl.settings import SSH
from clusterctl.transport import failures
from clusterctl.transport.channel_cache import ChannelCache, Renewable
from clusterctl.transport.child import Child, end_all
from clusterctl.transport.protocol import Channel, Failure
from clusterctl.transport.resolve import Endpoints
from clusterctl.transport.window import allow_descriptors, open_window


class OwnChannel(Renewable, Protocol):
    """A channel whose end can be waited for."""

    def join(self, timeout: float) -> bool:
        """True once nothing of it is left, False after ``timeout`` seconds."""
        ...


class BaseTransport(ABC):
    """`Transport`, but for how a channel is opened."""

    descriptors_per_host: ClassVar[int]

    def __init__(self, config: Path | None) -> None:
        self._lock = threading.Lock()
        self._endpoints = Endpoints(config)
        self._channels: weakref.WeakSet[OwnChannel] = weakref.WeakSet()
        self._children: weakref.WeakSet[Child] = weakref.WeakSet()
        self._cache = ChannelCache()
        self._ahead: dict[tuple[str, str], Future[OwnChannel | Failure]] = {}
        self._closed = False

    def open(self, host: str, command: str, deadline: float) -> Channel | Failure:
        kept = self._cache.take(host, command, deadline)
        if kept is not None:
            return kept
        with self._lock:
            begun = self._ahead.pop((host, command), None)
        opened = self._open_in_book(host, command, deadline) if begun is None else begun.result()
        if begun is not None and not isinstance(opened, Failure):
            opened.renew(deadline)
        return opened

    def _open_in_book(self, host: str, command: str, deadline: float) -> OwnChannel | Failure:
        began = time.monotonic()
        try:
            opened = self._open(host, command, deadline)
        except RuntimeError as error:
            if "new thread" not in str(error):
                raise
            opened = failures.no_thread(host)
        except OSError as error:
            if not failures.is_ours(error):
                raise
            opened = failures.no_descriptor(host, error)
        if isinstance(opened, Failure):
            return msgspec.structs.replace(opened, seconds=time.monotonic() - began)
        with self._lock:
            self._channels.add(opened)
            late = self._closed
        if late:
            opened.close()
        return opened

    def open_all(
        self, hosts: Sequence[str], command: str, deadline: float
    ) -> Iterator[tuple[str, Channel | Failure]]:
        allow_descriptors(len(hosts), self.descriptors_per_host, SSH.window)
        return open_window(lambda host: self.open(host, command, deadline), hosts, SSH.window)

    def open_ahead(self, hosts: Sequence[str], command: str, deadline: float) -> None:
        allow_descriptors(len(hosts), self.descriptors_per_host, SSH.window)
        begun: dict[str, Future[OwnChannel | Failure]] = {host: Future() for host in hosts}
        with self._lock:
            self._ahead.update({(host, command): future for host, future in begun.items()})

        def work() -> None:
            try:
                opening = open_window(
                    lambda host: self._open_in_book(host, command, deadline), hosts, SSH.window
                )
                for host, opened in opening:
                    begun[host].set_result(cast("OwnChannel | Failure", opened))
                    if self._closed:
                        break
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that asks for it
                for future in begun.values():
                    if not future.done():
                        future.set_exception(error)

        threading.Thread(target=work, name="ahead", daemon=True).start()

    def address_of(self, host: str) -> tuple[str, int] | None:
        return self._endpoints.address_of(host)

    def keep(self, channel: Channel, command: str) -> None:
        self._cache.put(cast(OwnChannel, channel), command)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            channels, children = list(self._channels), list(self._children)
        for channel in channels:
            channel.close()
        deadline = time.monotonic() + 2 * SSH.close_timeout
        for channel in channels:
            channel.join(deadline - time.monotonic())
        self._close_gateways()
        end_all(children)

    @abstractmethod
    def _open(self, host: str, command: str, deadline: float) -> OwnChannel | Failure:
        """A new channel, which `open` enters into the book."""

    @abstractmethod
    def _close_gateways(self) -> None:
        """What channels went through, once they are closed."""

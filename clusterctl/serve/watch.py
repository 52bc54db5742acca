"""Pages that are looked at again and again while somebody watches: by one thread each, however many watch."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from clusterctl.errors import ClusterctlError
from clusterctl.report.html.live import Shown
from clusterctl.session.serve import Look

MOST = 12
"""Pages that are kept at once."""
_LINGER = 60.0
"""Seconds that a page is kept when nobody watches it any more: it need not be read from the beginning when
somebody comes back."""
_PAUSE = (1.5, 8.0)
_SHARE = 0.07
"""Of one core, for a look: where it costs more, the pauses become longer, up to a limit."""


class TooManyError(Exception):
    """Other pages are being watched."""


class Watch:
    """One page. All but the thread's own work happens in the event loop."""

    def __init__(self, look: Look) -> None:
        self.shown: Shown | None = None
        self.trouble: ClusterctlError | None = None
        """Why the newest look failed."""
        self.users = 0
        self.left = 0.0
        """When the last one left."""
        self._look = look
        self._looks = 0
        self._fresh = 1
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._condition = threading.Condition()
        self._closed = self._busy = self._hurried = False
        threading.Thread(target=self._work, name="clusterctl-page", daemon=True).start()

    def enter(self) -> None:
        with self._condition:
            if not self.users:
                self._fresh = self._looks + (2 if self._busy else 1)
                self._hurried = True
            self.users += 1
            self._condition.notify()

    def leave(self) -> None:
        with self._condition:
            self.users -= 1
        self.left = time.monotonic()

    def close(self) -> None:
        """Nobody watches it any more; who still does is woken."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._news.set()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def idle(self) -> bool:
        """Whether it may go. One whose disk does not answer stays: another would be stuck as well."""
        return not self.users and not self._busy

    async def fresh(self) -> None:
        """Until it shows what is there now, or cannot."""
        while self._looks < self._fresh and not self._closed:
            await self._news.wait()

    async def look(self, timeout: float) -> None:
        """Until it has been looked at again, or so many seconds are over."""
        with anyio.move_on_after(timeout):
            await self._news.wait()

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._closed or self.users)
                if self._closed:
                    return
                self._busy, self._hurried = True, False
            before = time.thread_time()
            shown, trouble = self._looked()
            cost = time.thread_time() - before
            try:
                self._loop.call_soon_threadsafe(self._publish, shown, trouble)
            except RuntimeError:  # the loop is closed: the end
                return
            with self._condition:
                self._condition.wait_for(lambda: self._closed or self._hurried, pause(cost))

    def _looked(self) -> tuple[Shown | None, ClusterctlError | None]:
        try:
            return self._look(), None
        except ClusterctlError as error:
            return None, error
        except Exception as error:  # noqa: BLE001 (it would end the thread, and who watches would wait for ever)
            return None, ClusterctlError(f"this page cannot be made: {type(error).__name__}: {error}")

    def _publish(self, shown: Shown | None, trouble: ClusterctlError | None) -> None:
        with self._condition:
            self._busy = False
        self.shown, self.trouble = shown or self.shown, trouble
        self._looks += 1
        self._news.set()
        self._news = asyncio.Event()


class Watches:
    """Those that are kept, by their names."""

    def __init__(self) -> None:
        self._kept: dict[str, Watch] = {}

    def known(self, name: str) -> bool:
        return name in self._kept

    @contextmanager
    def watching(self, name: str, look: Look) -> Iterator[Watch]:
        """``look``: for a page that is not kept yet. Raises TooManyError."""
        if name not in self._kept:
            self._make_room()
            self._kept[name] = Watch(look)
        watch = self._kept[name]
        watch.enter()
        try:
            yield watch
        finally:
            watch.leave()
            asyncio.get_running_loop().call_later(_LINGER, self._forget, name, watch)

    def close(self) -> None:
        for watch in self._kept.values():
            watch.close()
        self._kept.clear()

    def _make_room(self) -> None:
        if len(self._kept) < MOST:
            return
        idle = [(watch.left, name) for name, watch in self._kept.items() if watch.idle]
        if not idle:
            raise TooManyError
        self._kept.pop(min(idle)[1]).close()

    def _forget(self, name: str, watch: Watch) -> None:
        over = watch.idle and time.monotonic() - watch.left >= _LINGER
        if over and self._kept.get(name) is watch:
            del self._kept[name]
            watch.close()


def pause(cost: float) -> float:
    """Seconds until the next look, where one has cost so many of one core."""
    shortest, longest = _PAUSE
    return min(max(shortest, cost / _SHARE), longest)

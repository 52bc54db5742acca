"""An answer that goes on: to one who may be slow, vanish, or never read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from clusterctl.serve.event_stream import PULSE
from clusterctl.serve.watch import TooManyError

_TAKE = 60.0
"""Seconds in which one must have taken what was sent."""


class Told:
    """One who is told. The answer begins with the first word."""

    def __init__(self, send: Send, head: list[tuple[bytes, bytes]]) -> None:
        self._begun = False
        self._send = send
        self._head = head
        self._last = 0.0
        self._state = b""

    async def send(self, data: bytes, *, more: bool = True) -> None:
        """Raises TimeoutError where it is not taken."""
        head = {"type": "http.response.start", "status": 200, "headers": self._head}
        body = {"type": "http.response.body", "body": data, "more_body": more}
        for message in (body,) if self._begun else (head, body):
            self._begun = True
            with anyio.fail_after(_TAKE):  # asyncio.wait_for loses a cancellation before Python 3.12
                await self._send(message)
        self._last = time.monotonic()

    async def state(self, data: bytes) -> None:
        """Only where it is another one than before."""
        if data != self._state:
            self._state = data
            await self.send(data)

    async def pulse(self, every: float) -> None:
        """A word that means nothing, where there was none for long: so a dead connection is noticed."""
        if time.monotonic() - self._last >= every:
            await self.send(PULSE)


class Stream(Response):
    """``tell`` says all there is to say; before its first word it may raise TooManyError, and the answer is
    ``refused``."""

    media_type = "text/event-stream"

    def __init__(self, tell: Callable[[Told], Awaitable[None]], *, refused: Response) -> None:
        super().__init__()
        self._tell = tell
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = Told(send, [(b"content-type", b"text/event-stream; charset=utf-8")])
        work = asyncio.ensure_future(self._tell(told))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                await told.send(b"", more=False)
        except TooManyError:
            await self._refused(scope, receive, send)
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

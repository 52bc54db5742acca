"""The pages of this machine's runs as an ASGI application."""

from __future__ import annotations

from contextlib import AbstractContextManager

import anyio
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from clusterctl.errors import ClusterctlError
from clusterctl.report.html.index import RUN_ID
from clusterctl.report.html.live import live_page, problem_page
from clusterctl.report.html.pages import script
from clusterctl.serve import event_stream
from clusterctl.serve.access import Access, Asked, Refused, headers, place
from clusterctl.serve.stream import Stream, Told
from clusterctl.serve.watch import TooManyError, Watch, Watches
from clusterctl.session.serve import NoSuchRunError, a_run, the_list

STREAMS = 64
"""Pages that are kept up to date at once, over all who look."""
_PULSE = 15.0
_READ = 30.0
"""Seconds for this machine's disk to tell."""


class Pages:
    """``access`` decides who may read them."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers().items()]
        self._watches = Watches()
        self._streams = 0
        self._router = Router(
            [
                Route("/", self._page),
                Route("/events", self._events),
                Route("/live.js", _script),
                Route("/run/{run}", self._page),
                Route("/run/{run}/events", self._events),
            ],
            redirect_slashes=False,
            default=_nothing_here,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        try:
            answer = self._judged(Request(scope)) or self._router
            await answer(scope, receive, with_headers)
        except Exception as error:  # noqa: BLE001 (nobody is shown a traceback)
            if not begun:
                what = f"this is a fault of clusterctl: {type(error).__name__}: {error}"
                await _problem(500, what)(scope, receive, with_headers)

    def close(self) -> None:
        """Who watches is sent nothing any more."""
        self._watches.close()

    def _judged(self, request: Request) -> Response | None:
        """None where the router is to answer."""
        told, query = request.headers, request.query_params
        asked = Asked(
            method=request.method,
            host=told.get("host", ""),
            origin=told.get("origin", ""),
            site=told.get("sec-fetch-site", ""),
            mode=told.get("sec-fetch-mode", ""),
            destination=told.get("sec-fetch-dest", ""),
            token=query.get("token", ""),
            cookie=request.cookies.get(self._access.cookie, ""),
        )
        judged = self._access.judge(asked)
        if isinstance(judged, Refused):
            found = _problem(judged.status, judged.what, judged.hint, link=judged.status == 403)
            if judged.status == 405:
                found.headers["Allow"] = "GET, HEAD"
            return found
        if judged == "enter":
            head = {"Location": place(request.url.path), "Set-Cookie": self._access.set_cookie}
            return Response(status_code=303, headers=head)
        return None

    async def _page(self, request: Request) -> Response:
        name = request.path_params.get("run", "")
        try:
            with self._watching(name) as watch:
                with anyio.fail_after(_READ):
                    await watch.fresh()
                if watch.shown is not None and watch.trouble is None:
                    return HTMLResponse(live_page(watch.shown, below=bool(name)))
                trouble = watch.trouble or ClusterctlError("clusterctl serve ends")
        except TooManyError:
            return _busy()
        except NoSuchRunError as error:
            trouble = error
        except TimeoutError:
            what = f"the files of this page could not be read within {_READ:.0f} s"
            return _problem(503, what, "Is the disk well that they lie on?")
        status = 404 if isinstance(trouble, NoSuchRunError) else 500
        return _problem(status, trouble.message, trouble.hint, link=bool(name))

    async def _events(self, request: Request) -> Response:
        name = request.path_params.get("run", "")
        have = event_stream.had(request.query_params.get("have", ""))
        if request.method == "HEAD":
            return Response(media_type=Stream.media_type)
        return Stream(lambda told: self._tell(name, have, told), refused=_busy())

    async def _tell(self, name: str, have: dict[str, str], told: Told) -> None:
        """Who is slow is sent what is newest by then, not all that came meanwhile."""
        if self._streams >= STREAMS:
            raise TooManyError
        self._streams += 1
        try:
            with self._watching(name) as watch:
                await watch.fresh()
                while not watch.closed:
                    over = await _tell_news(watch, have, told)
                    if over:
                        return
                    await watch.look(_PULSE)
                    await told.pulse(_PULSE)
        finally:
            self._streams -= 1

    def _watching(self, name: str) -> AbstractContextManager[Watch]:
        if name and RUN_ID.fullmatch(name) is None:
            raise NoSuchRunError("no such run")
        return self._watches.watching(name, a_run(name) if name else the_list())


async def _tell_news(watch: Watch, have: dict[str, str], told: Told) -> bool:
    """What ``have`` lacks, which has it afterwards. Whether nothing more will come."""
    shown = watch.shown
    if shown is not None:
        for data in event_stream.changes(shown, have):
            await told.send(data)
        have.update(shown.versions)
    trouble = watch.trouble.message if watch.trouble is not None else ""
    over = isinstance(watch.trouble, NoSuchRunError) or (shown is not None and shown.over and not trouble)
    await told.state(event_stream.state(shown.title if shown is not None else "", over, trouble))
    return over


async def _script(request: Request) -> Response:
    return Response(script(), media_type="text/javascript")


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    await _problem(404, "there is no such page", link=True)(scope, receive, send)


def _busy() -> Response:
    found = _problem(503, "too many pages are open", "Close some: this one comes when there is room.")
    found.headers["Retry-After"] = "10"
    return found


def _problem(status: int, what: str, hint: str = "", *, link: bool = False) -> Response:
    return HTMLResponse(problem_page(what, hint, link="all runs" if link else ""), status)

"""Pages that are kept up to date: what is sent, to whom, how long, and what it costs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from markupsafe import Markup

from clusterctl.errors import ClusterctlError
from clusterctl.report.html.live import Shown
from clusterctl.serve import event_stream, stream, watch
from clusterctl.serve.access import Access
from clusterctl.serve.app import Pages
from clusterctl.serve.stream import Stream, Told
from clusterctl.serve.watch import MOST, TooManyError, Watches, pause

HOSTILE = "</script><script>alert(1)</script>\n\nevent: state\r\ndata: {}\u2028\x1b[2J"


def page(**parts: str) -> Shown:
    found = {name: Markup(text) for name, text in parts.items()}
    return Shown(
        title=HOSTILE, parts=found, versions={name: text.encode().hex() for name, text in parts.items()}
    )


def read(data: bytes) -> list[tuple[str, Any]]:
    """As a browser takes a stream apart, for which a carriage return ends a line, too."""
    found, name, said = [], "message", []
    for line in data.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            said.append(value)
        elif not line and said:
            found.append((name, json.loads("\n".join(said))))
            name, said = "message", []
    return found


def test_whatever_is_in_it_an_event_is_one_event() -> None:
    told = b"".join(event_stream.changes(page(verdict=HOSTILE, facts="a\rb"), {}))
    assert [(name, each["name"], each["html"]) for name, each in read(told)] == [
        ("part", "verdict", HOSTILE),
        ("part", "facts", "a\rb"),
    ]
    (said,) = read(event_stream.state(HOSTILE, True, HOSTILE))
    assert said[0] == "state" and said[1]["over"] is True and "\x1b" not in said[1]["title"]
    assert read(event_stream.PULSE) == []


def test_only_what_a_page_does_not_have_is_sent() -> None:
    shown = page(verdict="a", curves="b", plan="c")
    have = event_stream.had(f"verdict.{shown.versions['verdict']}-curves.0000-plan")
    assert have == {"verdict": shown.versions["verdict"], "curves": "0000"}
    told = b"".join(event_stream.changes(shown, have))
    assert [each["name"] for _, each in read(told)] == ["curves", "plan"]
    assert event_stream.had("../..=<script>&verdict.XYZ") == {}


class Script:
    """A page whose looks are counted, and which becomes what it is told to."""

    def __init__(self) -> None:
        self.looks = 0
        self.now: Shown | ClusterctlError = page(verdict="first")
        self.may = threading.Event()
        self.may.set()

    def __call__(self) -> Shown:
        self.looks += 1
        assert self.may.wait(60)
        if isinstance(self.now, ClusterctlError):
            raise self.now
        return self.now


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PAUSE", (0.001, 0.01))


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


def test_nobody_who_watches_costs_nothing_and_many_cost_as_one(quick: None) -> None:
    look = Script()

    async def watched() -> None:
        watches = Watches()
        with watches.watching("a", look) as first, watches.watching("a", look) as second:
            assert first is second
            await first.fresh()
            await until(lambda: look.looks > 3)
            assert sum(each.name == "clusterctl-page" for each in threading.enumerate()) == 1
        await until(lambda: first.idle)
        seen = look.looks
        await asyncio.sleep(0.1)
        assert look.looks - seen <= 1, "a look that had begun"
        look.now = page(verdict="second")
        with watches.watching("a", look) as again:
            await again.fresh()
            assert again is first and again.shown is look.now, "what is there now, not what was there before"
        watches.close()

    asyncio.run(watched())
    for each in threading.enumerate():
        if each.name == "clusterctl-page":
            each.join(60)
    assert not [each for each in threading.enumerate() if each.name == "clusterctl-page"]


def test_a_look_that_fails_is_told_and_made_again(quick: None) -> None:
    look = Script()

    async def watched() -> None:
        watches = Watches()
        look.now = ClusterctlError("plan.json cannot be read")
        with watches.watching("a", look) as found:
            await found.fresh()
            assert found.shown is None and found.trouble is look.now
            look.now = page(verdict="mended")
            await until(lambda: found.shown is not None)
            assert found.trouble is None
        watches.close()

    asyncio.run(watched())


def test_pages_beyond_the_limit_take_the_place_of_idle_ones_and_never_of_others(quick: None) -> None:
    async def watched() -> None:
        watches = Watches()
        stuck = Script()
        stuck.may.clear()
        with watches.watching("stuck", stuck) as found:
            await until(lambda: stuck.looks == 1)
        assert not found.idle, "its disk does not answer: no second thread is to wait for it"
        for number in range(MOST + 5):
            with watches.watching(str(number), Script()) as each:
                await each.fresh()
            await until(lambda each=each: each.idle)  # type: ignore[misc]
        assert len(watches._kept) == MOST and watches._kept["stuck"] is found
        with ExitStack() as held:
            for number in range(MOST - 1):
                held.enter_context(watches.watching(f"held{number}", Script()))
            with pytest.raises(TooManyError):
                held.enter_context(watches.watching("one more", Script()))
        stuck.may.set()
        watches.close()

    asyncio.run(watched())


def test_what_costs_more_is_looked_at_less_often() -> None:
    assert pause(0.0) == watch._PAUSE[0] and pause(1000.0) == watch._PAUSE[1]
    assert pause(0.3) == pytest.approx(0.3 / watch._SHARE)


async def streamed(tell: Callable[[Told], Any], *, taken: asyncio.Event, gone: asyncio.Event) -> list[bytes]:
    """What one is sent who takes each piece when ``taken`` is set, and leaves when ``gone`` is."""
    sent = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b"head"))
        await taken.wait()

    async def receive() -> dict[str, str]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def refused(scope: Any, receive: Any, send: Any) -> None:
        sent.append(b"refused")

    await Stream(tell, refused=refused)({"type": "http"}, receive, send)  # type: ignore[arg-type]
    return sent


def test_one_who_vanishes_or_takes_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_TAKE", 0.05)
    ended = []

    async def tell(told: Told) -> None:
        try:
            await told.send(b"first")
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main() -> None:
        taken, gone = asyncio.Event(), asyncio.Event()
        taken.set()
        gone.set()
        assert (await streamed(tell, taken=taken, gone=gone))[-1:] != [b""], "who has left is told no end"
        with pytest.raises(TimeoutError):
            await streamed(tell, taken=asyncio.Event(), gone=asyncio.Event())

    asyncio.run(main())
    assert ended == [True, True]


def test_one_for_whom_there_is_no_room_is_told_so_and_others_get_an_end() -> None:
    async def full(told: Told) -> None:
        raise TooManyError

    async def short(told: Told) -> None:
        await told.state(b"same")
        await told.state(b"same")

    async def main() -> None:
        taken = asyncio.Event()
        taken.set()
        assert await streamed(full, taken=taken, gone=asyncio.Event()) == [b"refused"]
        assert await streamed(short, taken=taken, gone=asyncio.Event()) == [b"head", b"same", b""]

    asyncio.run(main())


async def answered(
    pages: Pages, path: str, *, method: str = "GET", **head: str
) -> tuple[int, dict[str, str], bytes]:
    """What the application says, without a socket; until it has said it, or has begun to go on and on."""
    told = {"host": "127.0.0.1", "cookie": f"{ACCESS.cookie}={ACCESS.token}"} | head
    where, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": where,
        "raw_path": where.encode(),
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in told.items()],
    }
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    async def receive() -> dict[str, str]:
        await asyncio.Event().wait()
        raise AssertionError

    await pages(scope, receive, send)
    head_of = {name.decode(): value.decode() for name, value in said[0]["headers"]}
    return said[0]["status"], head_of, b"".join(each["body"] for each in said[1:])


ACCESS = Access(token="a-token")


def test_every_answer_has_its_head_and_no_path_leads_out(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    (tmp_path / "runs").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "plan.json").write_text("{}")

    async def main() -> None:
        pages = Pages(ACCESS)
        places = (
            "/run/../secret",
            "/run/..",
            "/run/.",
            "/run/",
            "/run//etc/passwd",
            "/etc/passwd",
            "/run/a/b",
        )
        names = (
            "/run/<script>",
            "/run/no-such-run",
            "/run/\x00",
            "/run/a\\..\\b",
            "/live.js/",
            "/run/x" * 40,
        )
        for path in (*places, *names):
            status, head, body = await answered(pages, path)
            assert status == 404 and b"<script>" not in body, path
            assert head["x-content-type-options"] == "nosniff" and "none" in head["content-security-policy"]
        status, head, _ = await answered(pages, "//evil.example/?token=a-token", cookie="")
        assert status == 303 and head["location"] == "/evil.example/" and "HttpOnly" in head["set-cookie"]
        assert head["cache-control"] == "no-store"
        status, head, body = await answered(pages, "/", cookie="")
        assert status == 403 and b"serve" in body
        assert (await answered(pages, "/", method="POST"))[1]["allow"] == "GET, HEAD"
        assert (await answered(pages, "/live.js"))[0] == (await answered(pages, "/"))[0] == 200
        status, head, body = await answered(pages, "/events", method="HEAD")
        assert (status, head["content-type"], body) == (200, "text/event-stream; charset=utf-8", b"")
        pages.close()

    asyncio.run(main())

"""`clusterctl top` with keys, as a person sees it: by textual's pilot, and on a real terminal."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from clusterctl.cli.top_screen import TopScreen
from clusterctl.session.top import Hearing, Looking
from clusterctl.session.top_record import News, replayed, write_news
from clusterctl.session.top_runs import look_closer
from tests.on_a_screen import PATIENCE, OnAScreen
from tests.test_report_top import HOSTILE, NOW, gpu, host, one, rank

HOSTS = [
    one(host(gpu(), gpu(0.0, 0.2), jobs=(rank(),)), name="node1"),
    one(problem="connection refused", name="node2"),
    one(host(gpu(), jobs=(rank(user="bob", run="", command="python eval.py"),)), name="node3"),
]


def lines(app: TopScreen) -> list[str]:
    """What is on the screen."""
    return [
        "".join(segment.text for segment in strip).rstrip()
        for strip in app.screen._compositor.render_strips()
    ]


def pressing(
    keys: Callable[[Pilot[None], TopScreen], Awaitable[None]],
    *news: News,
    size: tuple[int, int] = (80, 24),
    only: str = "",
) -> None:
    """Look at hosts that have said this, and do what ``keys`` does."""
    told = news or tuple(HOSTS)
    looking = Looking(list(dict.fromkeys(each.host for each in told)))
    closer = partial(look_closer, way=("clusterctl", "ssh"))
    source = replayed(told, pace=False)

    async def sit() -> None:
        with closing(
            Hearing(source, looking, lambda: (), closer=closer, now=lambda: looking.newest)
        ) as hearing:
            while not hearing.over:
                hearing.pause(0.01)
            app = TopScreen(hearing, only)
            async with app.run_test(size=size) as pilot:
                await pilot.pause()
                await keys(pilot, app)

    asyncio.run(sit())


@pytest.mark.parametrize("width", [80, 120])
def test_the_rows_are_those_of_the_plain_form_with_the_keys_below(width: int) -> None:
    async def keys(pilot: Pilot[None], app: TopScreen) -> None:
        shown = lines(app)
        assert shown[0] == "3 hosts, 3 GPUs, 1 free, 1 without an answer; the end of the recording"
        assert shown[1].split()[:2] == ["host", "dev"]
        assert shown[2].endswith("20260101-120000-aaaa rank 3  train.py") and ("4711" in shown[2]) == (
            width > 110
        )
        assert shown[3].endswith("free") and shown[4] == "node2 connection refused"
        assert "q quit" in shown[-1] and max(map(len, shown)) <= width

    pressing(keys, size=(width, 24))


def test_a_filter_works_while_it_is_typed_and_escape_ends_it() -> None:
    async def keys(pilot: Pilot[None], app: TopScreen) -> None:
        await pilot.press(*"/bo")
        await pilot.pause()
        assert [line.split()[0] for line in lines(app)[2:4] if line] == ["node3"]
        assert "1 line holds 'bo'" in lines(app)[0]
        await pilot.press("slash")  # in the field it is a letter
        assert "'bo/'" in lines(app)[0]
        await pilot.press("escape")
        await pilot.pause()
        assert [line.split()[0] for line in lines(app)[2:6] if line] == ["node1", "node1", "node2", "node3"]

    pressing(keys)


def test_what_is_chosen_stays_chosen_and_enter_looks_closer() -> None:
    async def keys(pilot: Pilot[None], app: TopScreen) -> None:
        await pilot.press("down", "down", "down")
        await pilot.press(*"/n", "enter")
        await pilot.press("enter")
        while "eval.py" not in "\n".join(lines(app)):
            await pilot.pause(0.05)
        shown = lines(app)
        assert shown[0] == "node3, GPU 0" and "bob, pid 4711, for 2 h" in "\n".join(shown)
        assert shown[shown.index("to type") + 1] == "  clusterctl ssh node3"
        await pilot.press("escape")
        assert lines(app)[1].startswith("host")

    pressing(keys)


def test_hosts_are_heard_while_the_picture_is_paused() -> None:
    news = [HOSTS[0]]
    looking = Looking(["node1"])
    go_on = threading.Event()

    def source() -> Any:
        yield news[0]
        go_on.wait()
        yield one(host(gpu(0.11), jobs=()), name="node1", at=NOW + 2)

    async def sit() -> None:
        with closing(Hearing(source(), looking, lambda: (), now=lambda: looking.newest)) as hearing:
            app = TopScreen(hearing)
            async with app.run_test(size=(80, 24)) as pilot:
                while "90%" not in "\n".join(lines(app)):
                    await pilot.pause(0.05)
                await pilot.press("p")
                go_on.set()
                while not hearing.over:
                    await pilot.pause(0.05)
                app._look(now=True)
                await pilot.pause()
                assert "paused" in lines(app)[0] and "90%" in lines(app)[2]
                await pilot.press("p")
                await pilot.pause()
                assert "paused" not in lines(app)[0] and "11%" in lines(app)[2]

    asyncio.run(sit())


def test_many_lines_are_moved_in_and_the_place_is_said() -> None:
    many = [one(host(gpu()), name=f"node{number:03}") for number in range(256)]

    async def keys(pilot: Pilot[None], app: TopScreen) -> None:
        assert lines(app)[-1].endswith("1-21 of 256")
        await pilot.press("end")
        app._look(now=True)
        await pilot.pause()
        assert lines(app)[-1].endswith("236-256 of 256") and lines(app)[-2].startswith("node255")
        await pilot.press("home", "pagedown")
        app._look(now=True)
        await pilot.pause()
        assert lines(app)[2].startswith("node000") and app.screen.query_one("Table").row.host == "node020"  # type: ignore[attr-defined]

    pressing(keys, *many)


def test_hostile_words_do_nothing_to_the_screen() -> None:
    seen = host(gpu(name=HOSTILE), jobs=(rank(user=HOSTILE, command=f"{HOSTILE} [red]x[/red] [/x]", run=""),))

    async def keys(pilot: Pilot[None], app: TopScreen) -> None:
        for _ in range(2):
            text = "\n".join(lines(app))
            assert "\x1b" not in text and "\u202e" not in text
            await pilot.press("enter")
            await pilot.pause(0.3)
        assert "[red]x[/red]" in text

    pressing(keys, one(seen, name="[bold]node"))


def test_a_fault_of_the_hearing_is_raised_when_the_screen_is_gone() -> None:
    def source() -> Any:
        yield HOSTS[0]
        raise OSError(28, "No space left on device")

    async def sit() -> None:
        with closing(Hearing(source(), Looking(["node1"]), lambda: ())) as hearing:
            app = TopScreen(hearing)
            async with app.run_test(size=(80, 24)) as pilot:
                while app._fault is None:
                    await pilot.pause(0.05)
            assert isinstance(app._fault, OSError)

    asyncio.run(sit())


@pytest.mark.parametrize("key", ["q", "\x03"])
def test_on_a_real_terminal_it_ends_at_once_and_gives_the_terminal_back(tmp_path: Path, key: str) -> None:
    recording = tmp_path / "lab.ndjson"
    recording.write_text("".join(map(write_news, HOSTS)))
    with OnAScreen(["top", "--replay", str(recording)], columns=80) as seen:
        shown = seen.wait_for("node3", "q quit")
        assert shown[0].startswith("3 hosts, 3 GPUs") and "connection refused" in shown[4]
        seen.press("/bob\r")
        seen.wait_for("1 line holds 'bob'", without="node1")
        seen.press(key)
        assert seen.end() == 0
        assert seen.settings == seen.settings_before


def test_plain_is_plain_on_a_real_terminal_and_a_signal_ends_it(tmp_path: Path) -> None:
    recording = tmp_path / "lab.ndjson"
    later = [one(problem="gone", name="node2", at=NOW + 60 * number) for number in range(1, 1000)]
    recording.write_text("".join(map(write_news, [*HOSTS, *later])))
    with OnAScreen(["top", "--plain", "--replay", str(recording)], columns=120, lines=8) as seen:
        shown = seen.wait_for("node3", "3 hosts, 3 GPUs")
        assert "q quit" not in "\n".join(shown) and shown[1].startswith("node1 0   H100")
        assert seen.wait_for("node2 gone", "node3 nothing new")[4] == "node2 gone"  # nothing is left below it
        seen.kill(signal.SIGTERM)
        assert seen.end() == 128 + signal.SIGTERM


def of_many_hosts(path: Path, hosts: int, moments: int) -> None:
    with path.open("w") as file:
        for moment in range(moments):
            for number in range(hosts):
                cards = [gpu((number + card + moment) % 90 / 100) for card in range(8)]
                jobs = tuple(rank(card, number * 8 + card) for card in range(8))
                seen = host(*cards, jobs=jobs)
                file.write(write_news(one(seen, name=f"node{number:03}", at=NOW + 2 * moment)))


@pytest.mark.long
@pytest.mark.parametrize("columns", [80, 120])
def test_256_hosts_on_a_real_terminal(tmp_path: Path, columns: int) -> None:
    recording = tmp_path / "lab.ndjson"
    of_many_hosts(recording, 256, 8)
    with OnAScreen(["top", "--replay", str(recording)], columns=columns) as seen:
        shown = seen.wait_for("256 hosts, 2048 GPUs", "1-21 of 2048")
        first = [line.split()[:2] for line in shown[2:23]]
        for _ in range(20):
            shown = seen.look(0.3)
            assert [line.split()[:2] for line in shown[2:23]] == first
            assert max(map(len, shown)) <= columns
        seen.press("\x1b[F")  # end
        shown = seen.wait_for("2028-2048 of 2048")
        assert shown[-2].startswith("node255 7 ")
        seen.press("/node200\r")
        seen.wait_for("8 lines hold 'node200'")
        seen.press("q")
        assert seen.end() == 0


@pytest.mark.long
def test_a_terminal_that_nobody_reads_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    recording = tmp_path / "lab.ndjson"
    of_many_hosts(recording, 64, 60)
    with OnAScreen(["top", "--replay", str(recording)], columns=200, lines=60) as seen:
        seen.wait_for("q quit")
        time.sleep(20)  # in which the terminal is full; it proves nothing if it is not
        seen.kill(signal.SIGTERM)
        until = time.monotonic() + PATIENCE
        while os.waitid(os.P_PID, seen.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            assert time.monotonic() < until
            time.sleep(0.1)
        seen.end()

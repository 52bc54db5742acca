"""`clusterctl logs`: what the ranks of a run printed."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli import options
from clusterctl.cli.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clusterctl.session.logs import Log, Reading, ReadingByTime
    from clusterctl.store.runs import RunDirectory
    from clusterctl.store.timed_logs import Piece

_POLL = 0.3


def command(
    run: Run = "",
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="Only this host.")] = "",
    rank: Annotated[
        int | None, typer.Option("--rank", metavar="N", help="Only this global rank, its bytes as they are.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    attempt: Annotated[
        str,
        typer.Option(
            "--attempt", metavar="K", help="Those of the K-th attempt, or all. Default: the newest."
        ),
    ] = "",
    tail: Annotated[
        int | None, typer.Option("--tail", metavar="N", min=0, help="The last N lines of each log.")
    ] = None,
    timestamps: Annotated[
        bool,
        typer.Option(
            "--timestamps",
            "-t",
            help="All ranks in the order of time, each line behind when it had come: looked at ten times a "
            "second, once a second of a rank that prints all the time.",
        ),
    ] = False,
    since: Annotated[
        str,
        typer.Option(
            "--since",
            metavar="TIME",
            callback=options.not_empty,
            help="In the order of time, only what came in the last 10m, or since 14:30 or 2026-01-31T14:30.",
        ),
    ] = "",
    grep: Annotated[
        str,
        typer.Option(
            "--grep",
            metavar="REGEX",
            callback=options.not_empty,
            help="Of all that only lines that match, in the words of Python's re: 'loss|(?i)nan'.",
        ),
    ] = "",
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Bring what is not complete here from the hosts first.")
    ] = False,
    agent: Annotated[
        bool, typer.Option("--agent", help="The engines' own output too (torchrun, deepspeed).")
    ] = False,
) -> int:
    """Print the logs of a run, rank by rank, each line behind the host and rank it comes from.

    With one rank and without the engines' output, the bytes go to stdout as they are. Exit code 1 when --grep
    matches nothing, or --fetch could not bring all.
    """
    import time

    from clusterctl.cli import screen
    from clusterctl.cli.terminal import Terminal, gone
    from clusterctl.errors import ClusterctlError, UsageError
    from clusterctl.session.logs import Matching, Reading, ReadingByTime, choose, plans
    from clusterctl.store.runs import find_run

    after = options.moment(since, "--since", time.time()) if since else None
    matching = Matching(grep) if grep else None
    directory = find_run(run or None)
    plan = directory.plan()
    missing = _fetch(directory) if fetch else {}
    logs = [
        log
        for each in plans(directory, plan, attempt)
        for log in choose(directory, each, host, rank, agent=agent)
    ]
    by_time = timestamps or after is not None
    reading: Reading | ReadingByTime = (
        ReadingByTime(directory, logs, plan.log_limit, lines=tail, since=after)
        if by_time
        else Reading(logs, plan.log_limit, lines=tail)
    )

    def later() -> list[Log]:
        """Those of attempts that have begun since."""
        nonlocal plan
        if attempt or directory.newest_attempt() == plan.attempt:
            return []
        plan = directory.plan()
        try:
            return choose(directory, plan, host, rank, agent=agent)
        except UsageError:  # a spare has taken the place of that host
            return []

    terminal = Terminal(1, patient=True)
    one = rank is not None and not agent
    live = screen.live(plan, terminal, engine=agent, bare=one)
    # On a terminal even one rank's bytes are made harmless; a file or another program gets them as they are.
    as_is = one and not screen.out().is_terminal
    stamp = _stamps(directory.started()) if timestamps else None
    empty, code = True, 0
    try:
        pieces = _read(directory, reading, later, follow=follow)
        for piece in matching.among(pieces) if matching else pieces:
            if terminal.lost is not None:
                break
            empty, data = False, piece.data
            if by_time and not data.endswith(b"\n"):
                data += b"\n"
            live.stamp = stamp(piece.at) if stamp else ""
            if as_is:
                terminal.put(_stamped(data, live.stamp.encode()))
            else:
                live.output(piece.host, piece.name, data)
        live.flush()
    except KeyboardInterrupt:
        live.flush()
        code = 130
    terminal.close(timeout=float("inf"))
    if terminal.lost is not None:
        if gone(terminal.lost):
            return code or int(bool(missing))
        raise ClusterctlError(f"stdout cannot be written: {terminal.lost.strerror}", hint=f"{directory.logs}")
    if empty:
        what = "no line matches" if matching else "nothing was printed"
        if after is not None:
            what += time.strftime(" since %Y-%m-%d %H:%M:%S", time.localtime(after))
        screen.err().print(f"{what} in run {plan.run} ({_state(directory)})", style="dim")
        code = code or int(matching is not None)
    elif follow and not code:
        screen.ring(plan)
        screen.err().print(f"run {plan.run}: {_state(directory)}", style="dim")
    return code or int(bool(missing))


def _fetch(directory: RunDirectory) -> dict[str, str]:
    """Host -> why its logs are still not complete, which is on stderr then."""
    from clusterctl.cli import screen
    from clusterctl.report.harmless import harmless
    from clusterctl.run.display import Display
    from clusterctl.session.run import fetch_logs

    with screen.err().status(f"fetching the logs of run {directory.run}") as line:

        class Told(Display):
            def say(self, text: str) -> None:
                screen.err().print(text, style="dim")

            def awaiting(self, text: str) -> None:
                line.update(f"fetching {text}")

        missing = fetch_logs(directory, Told())
    for host, why in missing.items():
        screen.complain("warning", f"the logs of {host} are not complete: {harmless(why)}")
    if not missing:
        screen.err().print("logs complete to the last byte", style="dim")
    return missing


def _state(directory: RunDirectory) -> str:
    outcome = directory.outcome()
    if outcome is not None:
        return outcome.status
    return "running" if directory.supervised() else "its controller died; `clusterctl stop` collects the rest"


def _read(
    directory: RunDirectory,
    reading: Reading | ReadingByTime,
    later: Callable[[], list[Log]],
    *,
    follow: bool,
) -> Iterator[Piece]:
    """What is there, then what is added until the end, also to the logs that ``later`` brings."""
    import time

    while True:
        over = not follow or directory.outcome() is not None or not directory.supervised()
        yield from reading.news(over=over)
        if over:
            return
        reading.add(later())
        time.sleep(_POLL)


def _stamps(began: float) -> Callable[[float | None], str]:
    """How moments are written: for people of the same day as clocks show them, elsewhere as ISO 8601."""
    import time
    from datetime import datetime

    from clusterctl.cli import screen

    today = time.localtime(began)[:3] == time.localtime()[:3]
    short = screen.out().is_terminal

    def stamp(at: float | None) -> str:
        if at is None:
            return "?".ljust(11 if today else 17) if short else "? "
        moment = datetime.fromtimestamp(at).astimezone()
        tenths = moment.microsecond // 100_000  # nobody looks more often
        if not short:
            return f"{moment:%Y-%m-%dT%H:%M:%S}.{tenths}{moment.isoformat()[-6:]} "
        return f"{moment:%H:%M:%S}.{tenths} " if today else f"{moment:%m-%d %H:%M:%S}.{tenths} "

    return stamp


def _stamped(data: bytes, stamp: bytes) -> bytes:
    return b"".join(stamp + line for line in BytesIO(data)) if stamp else data

"""`clusterctl logs`: what the ranks of a run printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from clusterctl.plan.model import LaunchPlan
    from clusterctl.store.runs import RunDirectory

_POLL = 0.3
_LAUNCHER = "launcher"


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
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Bring what is not complete here from the hosts first.")
    ] = False,
    agent: Annotated[
        bool, typer.Option("--agent", help="The engines' own output too (torchrun, deepspeed).")
    ] = False,
) -> int:
    """Print the logs of a run, rank by rank, each line behind the host and rank it comes from.

    With one rank and without the engines' output, the bytes go to stdout as they are.
    """
    from clusterctl.cli import screen
    from clusterctl.cli.terminal import Terminal, gone
    from clusterctl.errors import ClusterctlError, UsageError
    from clusterctl.store.runs import find_run

    directory = find_run(run or None)
    plan = directory.plan()
    missing = _fetch(directory) if fetch else {}
    plans = _plans(directory, plan, attempt)
    logs = [log for each in plans for log in _choose(directory, each, host, rank, agent=agent)]

    def later() -> list[tuple[str, Path]]:
        """Those of attempts that have begun since."""
        nonlocal plan
        if attempt or directory.newest_attempt() == plan.attempt:
            return []
        plan = directory.plan()
        try:
            return _choose(directory, plan, host, rank, agent=agent)
        except UsageError:  # a spare has taken the place of that host
            return []

    terminal = Terminal(1, patient=True)
    one = rank is not None and not agent
    live = screen.live(plan, terminal, engine=agent, bare=one)
    # On a terminal even one rank's bytes are made harmless; a file or another program gets them as they are.
    as_is = one and not screen.out().is_terminal
    empty, code = True, 0
    try:
        for source, name, data in _read(directory, logs, later, plan.log_limit, tail=tail, follow=follow):
            empty = False
            if terminal.lost is not None:
                break
            if as_is:
                terminal.put(data)
            else:
                live.output(source, name, data)
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
        screen.err().print(f"nothing was printed in run {plan.run} ({_state(directory)})", style="dim")
    elif follow and not code:
        screen.err().print(f"run {plan.run}: {_state(directory)}", style="dim")
    return code or int(bool(missing))


def _fetch(directory: RunDirectory) -> dict[str, str]:
    """Host -> why its logs are still not complete, which is on stderr then."""
    from clusterctl.cli import screen
    from clusterctl.report.harmless import harmless
    from clusterctl.run.display import Display
    from clusterctl.session.run import fetch_logs

    class Told(Display):
        def say(self, text: str) -> None:
            screen.err().print(text, style="dim")

    with screen.err().status(f"fetching the logs of run {directory.run}"):
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


def _plans(directory: RunDirectory, newest: LaunchPlan, attempt: str) -> list[LaunchPlan]:
    """Of the attempts asked for, oldest first."""
    from clusterctl.errors import UsageError

    if not attempt:
        return [newest]
    known = range(1, newest.attempt + 1)
    if attempt != "all" and attempt not in map(str, known):
        raise UsageError(
            f"run {newest.run} has no attempt {attempt}",
            hint=f"1 to {newest.attempt}, or all" if newest.attempt > 1 else "it has only one",
        )
    return [directory.plan(each) for each in known if attempt in ("all", str(each))]


def _choose(
    directory: RunDirectory, plan: LaunchPlan, host: str, rank: int | None, *, agent: bool
) -> list[tuple[str, Path]]:
    """(host, file) of every log asked for, in rank order. Raises UsageError for what is not in the run."""
    from clusterctl.errors import UsageError
    from clusterctl.inventory.fold import fold

    hosts = [node.host for node in plan.nodes]
    if host and host not in hosts:
        raise UsageError(f"{host} took no part in run {plan.run}", hint=f"its hosts: {fold(hosts)}")
    if rank is not None and not 0 <= rank < plan.world_size:
        raise UsageError(
            f"run {plan.run} has no rank {rank}", hint=f"its ranks are 0 to {plan.world_size - 1}"
        )
    if rank is not None and host and plan.node_of(rank).host != host:
        raise UsageError(f"rank {rank} did not run on {host}", hint=f"it ran on {plan.node_of(rank).host}")
    found = []
    if agent and not host:
        found.append((_LAUNCHER, directory.logs / plan.launcher_log))
    for node in plan.nodes:
        if host in ("", node.host) and (rank is None or rank in node.ranks):
            names = [plan.agent_log] if agent else []
            names += [plan.log_of(each) for each in node.ranks if rank in (None, each)]
            found += [(node.host, directory.host_logs(node.host) / name) for name in names]
    return found


def _read(
    directory: RunDirectory,
    logs: list[tuple[str, Path]],
    later: Callable[[], list[tuple[str, Path]]],
    limit: int,
    *,
    tail: int | None,
    follow: bool,
) -> Iterator[tuple[str, str, bytes]]:
    """(host, file name, bytes): each file's last ``tail`` lines or all, then what is added until the end,
    also to the files that ``later`` brings. Meanwhile a log of more than ``limit`` bytes may lose its
    middle."""
    import time

    from clusterctl.store.log_tail import LogTail

    tails = [(host, LogTail(path, limit, lines=tail)) for host, path in logs]
    while True:
        over = not follow or directory.outcome() is not None or not directory.supervised()
        for host, log in tails:
            for data in log.news():
                yield host, log.path.name, data
        if over:
            return
        tails += [(host, LogTail(path, limit)) for host, path in later()]
        time.sleep(_POLL)

"""`clusterctl logs`: what the ranks of a run printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from clusterctl.plan.model import LaunchPlan
    from clusterctl.store.runs import RunDirectory

_POLL = 0.3


def command(
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="A run, or a beginning of its id. Default: the newest.")
    ] = "",
    host: Annotated[str, typer.Option("--host", help="Only this host.")] = "",
    rank: Annotated[
        int | None, typer.Option("--rank", help="Only this global rank, its bytes as they are.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", metavar="N", min=0, help="The last N lines of each log.")
    ] = None,
    agent: Annotated[
        bool, typer.Option("--agent", help="The engines' own output too (torchrun, deepspeed).")
    ] = False,
) -> None:
    """Print the logs of a run, rank by rank, each line behind the host and rank it comes from."""
    import sys
    import time

    from clusterctl.cli import screen
    from clusterctl.cli.live import LiveOutput
    from clusterctl.store.runs import find_run

    directory = find_run(run or None)
    plan = directory.plan()
    chosen = _choose(directory, plan, host, rank, agent=agent)
    raw = rank is not None
    console = screen.out()
    live = LiveOutput(
        plan, sys.stdout.buffer, colour=console.is_terminal and not console.no_color, engine=agent
    )
    offsets: dict[Path, int] = {}
    first = True
    while True:
        over = not follow or directory.outcome() is not None or not directory.supervised()
        for name, path in chosen:
            data = _read(path, offsets, tail if first else None)
            if raw:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            elif data:
                live.output(name, path.name, data)
        if over:
            break
        first = False
        time.sleep(_POLL)
    live.flush()


def _choose(
    directory: RunDirectory, plan: LaunchPlan, host: str, rank: int | None, *, agent: bool
) -> list[tuple[str, Path]]:
    """(host, file) of every log asked for, in rank order. Raises UsageError for what is not in the run."""
    from clusterctl.errors import UsageError

    hosts = [node.host for node in plan.nodes]
    if host and host not in hosts:
        raise UsageError(f"{host} took no part in run {plan.run}", hint=f"its hosts: {', '.join(hosts[:8])}")
    if rank is not None and not 0 <= rank < plan.world_size:
        raise UsageError(
            f"run {plan.run} has no rank {rank}", hint=f"its ranks are 0 to {plan.world_size - 1}"
        )
    found = []
    for node in plan.nodes:
        if host and node.host != host:
            continue
        if agent:
            found.append((node.host, directory.host_logs(node.host) / "agent.log"))
        for each in node.ranks:
            if rank in (None, each):
                found.append((node.host, directory.host_logs(node.host) / f"rank-{each}.log"))
    if not found:
        raise UsageError(
            f"rank {rank} did not run on {host}", hint=f"it ran on {plan.node_of(rank or 0).host}"
        )
    return found


def _read(path: Path, offsets: dict[Path, int], tail: int | None) -> bytes:
    """What ``path`` holds beyond what was read before; its last ``tail`` lines only, if given."""
    try:
        with path.open("rb") as stream:
            stream.seek(offsets.get(path, 0))
            data = stream.read()
    except FileNotFoundError:
        return b""
    offsets[path] = offsets.get(path, 0) + len(data)
    if tail is None:
        return data
    lines = data.splitlines(keepends=True)
    return b"".join(lines[max(0, len(lines) - tail) :])

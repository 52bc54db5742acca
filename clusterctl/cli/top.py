"""`clusterctl top`: hosts, GPUs and who uses them, now; and how far runs are."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from clusterctl.cli import options
from clusterctl.errors import UsageError

if TYPE_CHECKING:
    from clusterctl.report.top import Overview
    from clusterctl.session.top import Looking, News
    from clusterctl.transport import Transport

_LONGEST_PAUSE = 2.0
_ONCE = 20.0
"""Seconds in which a host that is to be shown once must have said something."""


def command(
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="The hosts of this run, or a beginning of its id.")
    ] = "",
    hostfile: options.Hostfile = "",
    cluster_name: options.Cluster = "",
    include: options.Include = "",
    exclude: options.Exclude = "",
    nodes: options.Nodes = None,
    once: Annotated[
        bool, typer.Option("--once", help="Show it once: what all hosts say, or fail to.")
    ] = False,
    watch: Annotated[
        float, typer.Option("--watch", metavar="SECONDS", min=0.5, help="How often hosts tell. Default: 2.")
    ] = 2.0,
    only: Annotated[
        str, typer.Option("--filter", metavar="TEXT", help="Lines that hold it: a host, a user, free, idle.")
    ] = "",
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Keep what hosts say, as lines of JSON.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option("--replay", metavar="FILE", help="Show a recording: no host is asked.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Once, for a program.")] = False,
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
) -> int:
    """Show what hosts and their GPUs do, for whom, and how far runs are, until Ctrl-C.

    One line for each GPU and process on it, with the run and rank where it is one of yours. What is unknown
    is `-`. A GPU whose memory is held while it does nothing for more than a minute is `idle`. A host that
    gives no answer is a line with its reason, and is asked again. Exit code 1 of --once: a host gave none.
    """
    from clusterctl.session.top import Looking, read_news, watched

    once = once or as_json
    if replay is not None:
        news = list(read_news(replay))
        looking = Looking(list(dict.fromkeys(each.host for each in news)))
        return (
            _show_once(_heard(news, looking), only, as_json=as_json) if once else _play(news, looking, only)
        )
    names, link = _hosts(run, hostfile, cluster_name, include, exclude, nodes, transport, ssh_config)
    looking = Looking(names)
    with closing(link), _recording(record) as keep, closing(watched(link, names, watch)) as source:
        try:
            if once:
                return _show_once(_settled(source, looking, run, keep), only, as_json=as_json)
            _go_on(source, looking, run, only, keep)
        except KeyboardInterrupt:
            return 0
    return 0


def _hosts(
    run: str,
    hostfile: str,
    cluster_name: str,
    include: str,
    exclude: str,
    nodes: int | None,
    transport: Literal["fabric", "openssh"],
    ssh_config: str,
) -> tuple[tuple[str, ...], Transport]:
    """Those of a run, by the way its launch took; else those that are named, or the default ones."""
    from clusterctl.cli import screen
    from clusterctl.session.cluster import Cluster
    from clusterctl.session.hosts import transport_of
    from clusterctl.store.runs import find_run

    if run:
        if hostfile or cluster_name or include or exclude or nodes:
            raise UsageError("a run has its own hosts", hint="leave out the run, or the options of hosts")
        plan = find_run(run).plan()
        return tuple(node.host for node in plan.nodes), transport_of(plan)
    cluster = Cluster.from_hostfile(
        hostfile,
        nodes=nodes,
        include=include,
        exclude=exclude,
        ssh_config=ssh_config,
        transport=transport,
        cluster=cluster_name,
    )
    screen.print_warnings(cluster.warnings)
    return cluster.target.names, cluster.target.connect()


@contextmanager
def _recording(record: Path | None) -> Iterator[Callable[[News], None]]:
    from clusterctl.session.top import write_news

    if record is None:
        yield lambda news: None
        return
    try:
        stream = os.fdopen(os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w")
    except OSError as error:
        raise UsageError(f"{record} cannot be written: {error.strerror}", hint="name another file") from error
    with stream:

        def keep(news: News) -> None:
            stream.write(write_news(news))
            stream.flush()

        yield keep


def _settled(
    source: Iterator[News | None], looking: Looking, run: str, keep: Callable[[News], None]
) -> Overview:
    """When every host has said something, or time is over."""
    from clusterctl.session.top import runs_here

    deadline = time.monotonic() + _ONCE
    for news in source:
        if news is not None:
            keep(news)
            looking.hear(news)
        if looking.settled or time.monotonic() > deadline:
            break
    return looking.overview(runs_here(_whole(run)), time.time())


def _heard(news: Iterable[News], looking: Looking) -> Overview:
    at = 0.0
    for each in news:
        looking.hear(each)
        at = each.at
    return looking.overview((), at)


def _show_once(overview: Overview, only: str, *, as_json: bool) -> int:
    import msgspec

    from clusterctl.cli import screen
    from clusterctl.report.top import render

    if as_json:
        typer.echo(msgspec.json.encode(overview).decode())
    else:
        out = screen.out()
        out.print(render(overview, width=out.width, only=only))
    return 0 if all(line.seen is not None and not line.problem for line in overview.hosts) else 1


def _go_on(
    source: Iterator[News | None], looking: Looking, run: str, only: str, keep: Callable[[News], None]
) -> None:
    from rich.live import Live

    from clusterctl.cli import screen
    from clusterctl.report.top import render
    from clusterctl.session.top import runs_here

    out = screen.out()
    whole = _whole(run)
    with Live(console=out, screen=out.is_terminal, auto_refresh=False, vertical_overflow="crop") as live:
        for news in source:
            if news is not None:
                keep(news)
                looking.hear(news)
                continue
            overview = looking.overview(runs_here(whole), time.time())
            live.update(render(overview, width=out.width, only=only), refresh=True)


def _play(news: Sequence[News], looking: Looking, only: str) -> int:
    """At the pace it was recorded, but for long pauses."""
    from rich.live import Live

    from clusterctl.cli import screen
    from clusterctl.report.top import render

    out = screen.out()
    before = news[0].at if news else 0.0
    try:
        with Live(console=out, auto_refresh=False, vertical_overflow="crop") as live:
            for each in news:
                time.sleep(min(max(each.at - before, 0.0), _LONGEST_PAUSE))
                before = each.at
                looking.hear(each)
                live.update(render(looking.overview((), each.at), width=out.width, only=only), refresh=True)
    except KeyboardInterrupt:
        return 0
    return 0


def _whole(run: str) -> str:
    from clusterctl.store.runs import find_run

    return find_run(run).run if run else ""

"""`clusterctl top`: hosts, GPUs and who uses them, now; and how far runs are."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from clusterctl.cli import options
from clusterctl.errors import UsageError

if TYPE_CHECKING:
    from clusterctl.report.top import Overview
    from clusterctl.session.top import Hearing
    from clusterctl.session.top_record import News
    from clusterctl.transport import Transport

_REFRESH = 1.0
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
    plain: Annotated[
        bool, typer.Option("--plain", help="Without keys: as where textual is missing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Once, for a program.")] = False,
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
) -> int:
    """Show what hosts and their GPUs do, for whom, and how far runs are, until q or Ctrl-C.

    One line for each GPU and process on it, with the run and rank where it is one of yours. What is unknown
    is `-`. A GPU whose memory is held while it does nothing for more than a minute is `idle`. A host that
    gives no answer is a line with its reason, and is asked again. Exit code 1 of --once: a host gave none.
    Keys (? lists them) need textual: pip install 'clusterctl[tui]'.
    """
    from clusterctl.session.top import Hearing, Looking, watched
    from clusterctl.session.top_record import read_news, replayed
    from clusterctl.session.top_runs import look_closer, runs_here

    once = once or as_json
    if replay is not None:
        news = list(read_news(replay))
        looking = Looking(list(dict.fromkeys(each.host for each in news)))
        closer = partial(look_closer, way=("ssh",))
        source = replayed(news, pace=not once)
        hearing = Hearing(source, looking, lambda: (), closer=closer, now=lambda: looking.newest)
        return _show(hearing, only, once=once, as_json=as_json, plain=plain)
    names, link, way = _hosts(run, hostfile, cluster_name, include, exclude, nodes, transport, ssh_config)
    looking = Looking(names, time.time())
    with closing(link), _recording(record) as keep:
        hearing = Hearing(
            watched(link, names, watch),
            looking,
            partial(runs_here, _whole(run)),
            closer=partial(look_closer, way=way),
            keep=keep,
        )
        return _show(hearing, only, once=once, as_json=as_json, plain=plain)


def _hosts(
    run: str,
    hostfile: str,
    cluster_name: str,
    include: str,
    exclude: str,
    nodes: int | None,
    transport: Literal["fabric", "openssh"],
    ssh_config: str,
) -> tuple[tuple[str, ...], Transport, tuple[str, ...]]:
    """Those of a run, by the way its launch took; else those that are named, or the default ones. And the
    words that a person types before the name of a host to get there."""
    from clusterctl.cli import screen
    from clusterctl.session.cluster import Cluster
    from clusterctl.session.hosts import transport_of
    from clusterctl.store.runs import find_run

    if run:
        if hostfile or cluster_name or include or exclude or nodes:
            raise UsageError("a run has its own hosts", hint="leave out the run, or the options of hosts")
        plan = find_run(run).plan()
        way = ("ssh", *(("-F", plan.ssh_config) if plan.ssh_config else ()))
        return tuple(node.host for node in plan.nodes), transport_of(plan), way
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
    named = {"-H": hostfile, "-c": cluster_name, "--ssh-config": ssh_config}
    way = ("clusterctl", "ssh", *(word for pair in named.items() if pair[1] for word in pair))
    return cluster.target.names, cluster.target.connect(), way


@contextmanager
def _recording(record: Path | None) -> Iterator[Callable[[News], None]]:
    from clusterctl.session.top_record import write_news

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


def _show(hearing: Hearing, only: str, *, once: bool, as_json: bool, plain: bool) -> int:
    """What is heard, to the end of the looking."""
    with closing(hearing):
        if once:
            return _show_once(hearing.settle(_ONCE), only, as_json=as_json)
        if not plain and _has_keys():
            from clusterctl.cli.top_screen import TopScreen

            TopScreen(hearing, only).show()
        else:
            with suppress(KeyboardInterrupt):
                _go_on(hearing, only)
    return 0


def _has_keys() -> bool:
    """Whether the screen can be one, and somebody is there to press them. Textual draws on stderr."""
    from importlib.util import find_spec

    terminal = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    return terminal and os.environ.get("TERM", "dumb") != "dumb" and find_spec("textual") is not None


def _show_once(overview: Overview, only: str, *, as_json: bool) -> int:
    import msgspec

    from clusterctl.cli import screen
    from clusterctl.report.top_page import render

    if as_json:
        typer.echo(msgspec.json.encode(overview).decode())
    else:
        out = screen.out()
        out.print(render(overview, width=out.width, only=only))
    return 0 if all(line.seen is not None and not line.problem for line in overview.hosts) else 1


def _go_on(hearing: Hearing, only: str) -> None:
    from rich.live import Live

    from clusterctl.cli import screen
    from clusterctl.report.top_page import render

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # not without the screen's end
    out = screen.out()
    with Live(console=out, screen=out.is_terminal, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            over = hearing.over
            height = out.height if out.is_terminal else None
            picture = render(hearing.overview(), width=out.width, only=only, height=height)
            live.update(picture, refresh=True)
            if over:
                break
            hearing.pause(_REFRESH if hearing.settled else _REFRESH / 4)
    if out.is_terminal:  # whose other screen is gone
        out.print(picture)


def _whole(run: str) -> str:
    from clusterctl.store.runs import find_run

    return find_run(run).run if run else ""

"""What dead runs left on hosts, and what became of it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from clusterctl.messages.sweep import LeftFile, LeftProcess, StrayProcess
from clusterctl.report.findings import brief
from clusterctl.report.harmless import harmless
from clusterctl.report.pull import size
from clusterctl.report.why import hint

_FILES = {
    "job": "what told its programs what to do",
    "folder": "a folder of its own",
    "shm": "shared memory that no process has open",
}


def found(host: str, processes: Sequence[LeftProcess], files: Sequence[LeftFile]) -> RenderableType:
    """What is left on one host, run by run."""
    parts: list[RenderableType] = [Text(f"{host}: {counted(processes, files)}", style="bold")]
    for run in sorted({each.run for each in processes} | {each.run for each in files}):
        if run:
            parts.append(Text(f"  of run {harmless(run)}", style="dim"))
        own = [each for each in processes if each.run == run]
        if own:
            parts += _rows(own)
        parts += [
            Text(f"    {harmless(each.path)}  {size(each.bytes)}, {_FILES[each.kind]}")
            for each in files
            if each.run == run
        ]
    return Group(*parts)


def strays(host: str, processes: Sequence[StrayProcess]) -> RenderableType:
    """What is let alone on one host, since nobody can tell whose it is, and how to end it."""
    those = f"{len(processes)} process{'es' * (len(processes) != 1)}"
    title = Text(f"{host}: {those} in the directory of a run, without its mark", style="bold")
    rows = [f"    {each.pid:>7}  {_brief_command(harmless(each.command))}" for each in processes]
    kill = f"clusterctl exec -i {host} -- kill {' '.join(str(each.pid) for each in processes)}"
    return Group(title, *(Text(row) for row in rows), hint(f"let alone; if nobody needs it: {kill}"))


def counted(processes: Sequence[LeftProcess], files: Sequence[LeftFile]) -> str:
    """``2 processes, 1 file``."""
    counts = ((len(processes), "process", "processes"), (len(files), "file", "files"))
    return ", ".join(f"{count} {one if count == 1 else more}" for count, one, more in counts if count)


def let_alone(runs: Mapping[str, Sequence[str]]) -> RenderableType:
    """``runs``: those that somebody looks after, with their hosts."""
    lines = (f"let alone: run {harmless(run)} on {brief(hosts)}, it lives" for run, hosts in runs.items())
    return Group(*(Text(line, style="dim") for line in lines))


def proof(hosts: int, left: Mapping[str, int]) -> RenderableType:
    """``left``: processes that could not be ended, by host."""
    total = sum(left.values())
    text = f"{total} process{'es' * (total != 1)} left on {brief(left) if left else _hosts(hosts)}"
    return Text(text, style="bold yellow" if total else "")


def _hosts(count: int) -> str:
    return f"{count} of {count} host{'s' * (count != 1)}"


def _row(*cells: str, style: str = "") -> Text:
    pid, rank, since, memory, gpu, command = cells
    text = f"    {pid:>7}  {rank:>4}  {since:<11}  {memory:>8}  {gpu:>8}  {command}"
    return Text(text, style=style, no_wrap=True, overflow="ignore")


def _rows(processes: Sequence[LeftProcess]) -> list[RenderableType]:
    return [
        _row("pid", "rank", "since", "memory", "GPU", "command", style="dim"),
        *(
            _row(
                str(each.pid),
                "-" if each.rank is None else str(each.rank),
                "?" if each.since is None else f"{datetime.fromtimestamp(each.since):%m-%d %H:%M}",
                size(each.memory),
                "-" if each.gpu is None else size(each.gpu << 20),
                _brief_command(harmless(each.command)),
            )
            for each in processes
        ),
    ]


def _brief_command(text: str) -> str:
    """Without the directories of the program: what it runs tells more."""
    program, space, rest = text.partition(" ")
    return program.rpartition("/")[2] + space + rest

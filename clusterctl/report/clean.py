"""What `clean` removed, host by host, and what it kept and why. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from clusterctl.inventory.fold import fold
from clusterctl.report.pull import printable, size

_KEPT = {
    "running": "it is running: clusterctl stop {run}",
    "outputs": "outputs on {hosts} were never pulled: clusterctl pull {run}, or clean --outputs",
    "unanswered": "{hosts} gave no answer",
    "unreachable": "{reason}; clean {run} --here-only removes what is here",
    "failed": "it could not be removed on {hosts}: {reason}",
    "damaged": "{reason}",
}


def freed(where: str, runs: int, snapshots: int, count: int, *, dry_run: bool) -> str:
    """``node1: 3 runs, 2 snapshots of code, 289.0 MB freed``."""
    parts = [f"{runs} run{'' if runs == 1 else 's'}"]
    parts += [f"{snapshots} snapshot{'' if snapshots == 1 else 's'} of code"] if snapshots else []
    return f"{where}: {', '.join(parts)}, {size(count)} {'would be freed' if dry_run else 'freed'}"


def kept(run: str, why: str, hosts: Sequence[str], reason: str) -> RenderableType:
    """``kept RUN`` and below it why, and what to do."""
    text = _KEPT[why].format(
        run=run, hosts=fold(hosts) if hosts else "this machine", reason=printable(reason)
    )
    return Group(
        Text.assemble(("kept ", "dim"), run), Text(f"  {text}", "yellow" if why != "running" else "")
    )

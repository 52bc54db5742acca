"""Files that `doctor` writes beside its report: the ready hosts, the state of all of them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from clusterctl.cli import new_file, screen

if TYPE_CHECKING:
    from clusterctl.session.examine import Examination
    from clusterctl.session.material import Invocation

_MEND = "mend what is said above"


def write_hostfile(seen: Examination, invocation: Invocation, output: Path, *, force: bool) -> None:
    from clusterctl.report.ready_hosts import hostfile

    text = hostfile(seen.material.inventory, seen.report, seen.material.taken)
    if not text:
        screen.complain("warning", f"no host is ready, so {output} was not written", _MEND)
        return
    new_file.write(output, text, "--hostfile-out", force=force)
    ready, total = len(seen.report.ready), len(seen.material.inventory.hosts)
    launch = invocation.launch_from(str(output))
    screen.err().print(f"wrote {output}: {ready} of {total} hosts; next: {launch}", style="dim")


def write_baseline(seen: Examination, output: Path, *, force: bool) -> None:
    from clusterctl.session import baseline

    state = baseline.taken_from(seen)
    if not state.hosts:
        screen.complain(
            "warning", f"no host answered, so {output} was not written", "mend what is said above"
        )
        return
    if seen.report.verdict != "ready":
        screen.complain(
            "warning",
            f"the cluster is not ready: {output} will take it for good as it is",
            f"{_MEND}, then save it anew",
        )
    new_file.write(output, baseline.text(state), "--save-baseline", force=force)
    total = len(seen.material.inventory.hosts)
    screen.err().print(
        f"wrote {output}: the state of {len(state.hosts)} of {total} hosts; "
        f"next: clusterctl doctor --baseline {shlex.quote(str(output))}",
        style="dim",
    )

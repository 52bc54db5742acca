"""`doctor --fix` and `doctor --apply`: what would cure the hosts, and the part of it that is done here."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clusterctl.cli import new_file, screen
from clusterctl.errors import UsageError

if TYPE_CHECKING:
    from clusterctl.session.apply import Outcome, Step
    from clusterctl.session.examine import Examination
    from clusterctl.session.material import Invocation
    from clusterctl.session.target import Target

_NOTHING = "nothing to cure"


def check(*, apply: bool, yes: bool, replay: str, fix: bool) -> None:
    """Raises UsageError for an --apply that could not ask, or has nobody to ask."""
    if not apply:
        raise UsageError("--yes is of use with --apply only", hint="--apply --yes")
    if replay or fix:
        raise UsageError(
            f"--apply is of no use with {'--replay: no host is asked' if replay else '--fix'}",
            hint="clusterctl doctor --apply",
        )
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "--apply asks before it does anything, and here is no terminal", hint="--apply --yes"
        )


def print_script(seen: Examination, invocation: Invocation) -> None:
    """On stdout the script alone, so that it can go into a file."""
    from clusterctl.report import doctor as page

    text = _script(seen, invocation)
    if text:
        screen.out().print(text.rstrip("\n"), soft_wrap=True)
    line = page.verdict(seen.material.inventory, seen.report, invocation.launch(chosen=True))
    screen.err().print(line if text else f"{_NOTHING}: {line.plain}")


def write_script(seen: Examination, invocation: Invocation, output: Path, *, force: bool) -> None:
    text = _script(seen, invocation)
    if not text:
        screen.err().print(f"{_NOTHING}, so {output} was not written", style="dim")
        return
    new_file.write(output, text, "--fix-out", force=force)
    screen.err().print(
        f"wrote {output}: read it, then: bash {shlex.quote(str(output))}", style="dim", markup=False
    )


def _script(seen: Examination, invocation: Invocation) -> str:
    from clusterctl.report.fix_script import script

    return script(seen.report, seen.material.inventory, seen.material.taken, invocation.ssh)


def apply(
    target: Target,
    seen: Examination,
    examine: Callable[[], Examination],
    invocation: Invocation,
    *,
    yes: bool,
) -> Examination:
    """Show what is safe, ask, do it, look again. Returns what is true then."""
    from clusterctl.report import doctor as page
    from clusterctl.session import apply as session

    steps = session.steps(seen.report)
    screen.err().print()
    if not steps:
        screen.err().print(
            "nothing of it is safe to be done for you" if seen.report.cures else _NOTHING, style="bold"
        )
        return seen
    screen.err().print("doctor may do this by itself:", style="bold")
    for step in steps:
        screen.err().print(f"  {_place(step)}: {shlex.join(step.action.words)}  ({step.code})")
    if not yes and not _agreed():
        screen.err().print("nothing was done")
        return seen
    outcomes = session.apply(target, steps)
    again = examine()
    screen.err().print()
    for outcome in outcomes:
        screen.err().print(_told(outcome, again))
    line = page.verdict(again.material.inventory, again.report, invocation.launch(chosen=True))
    screen.out().print(line)
    return again


def _place(step: Step) -> str:
    from clusterctl.report.findings import brief

    return "this machine" if step.is_here else brief(step.hosts)


def _agreed() -> bool:
    sys.stderr.write("do it? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _told(outcome: Outcome, again: Examination) -> str:
    what = f"{outcome.step.code} of {outcome.host}"
    if outcome.problem:
        return f"✗ not cured: {what}: {outcome.problem}"
    left = [
        finding
        for finding in again.report.findings
        if finding.code == outcome.step.code and outcome.host in finding.hosts and finding.severity != "info"
    ]
    return f"✗ done, and still there: {what}: {left[0].observed}" if left else f"✓ cured: {what}"

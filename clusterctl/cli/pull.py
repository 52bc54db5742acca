"""`clusterctl pull`: outputs of a run, from the hosts to here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli.runs import Run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clusterctl.ask.pull import Pulled
    from clusterctl.store.runs import RunDirectory


def command(
    run: Run = "",
    path: Annotated[
        str,
        typer.Argument(
            metavar="[PATH]",
            help="A file or folder, as the run names it. Default: all it made or changed in its code.",
        ),
    ] = "",
    to: Annotated[
        str, typer.Option("--to", metavar="DIR", help="Default: pulled/RUN; a folder per host in it.")
    ] = "",
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="Only from this host.")] = "",
) -> int:
    """Bring outputs of a run back from the hosts, laid out as its code is.

    What it brings is marked and never travels with a later run. Exit code 1 when
    something did not come, 64 when PATH is on no host.
    """
    from pathlib import Path

    from clusterctl.cli import screen
    from clusterctl.errors import UsageError
    from clusterctl.report import pull as page
    from clusterctl.session.pull import newest_that_worked, working_directories
    from clusterctl.store.runs import find_run

    directory = find_run(run) if run else newest_that_worked()
    roots = working_directories(directory, host)
    target = Path(to).expanduser() if to else Path("pulled") / directory.run
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is not a directory", hint="choose another with --to DIR")
    answers = _pull(directory, roots, path, target)
    here = [answer.host for answer in answers if answer.here]
    if here:
        screen.out().print(page.shared(here, roots[here[0]]), soft_wrap=False, crop=False)
    if not any(answer.files for answer in answers):
        return _nothing(directory.run, path, answers)
    arrivals = [
        page.Arrival(host=answer.host, files=answer.files, problem=answer.problem)
        for answer in answers
        if not answer.here
    ]
    screen.out().print(page.render(arrivals), soft_wrap=False, crop=False)
    screen.out().print(f"in {target}", markup=False)
    return 1 if any(answer.problem for answer in answers) else 0


def _pull(directory: RunDirectory, roots: Mapping[str, str], path: str, target: Path) -> tuple[Pulled, ...]:
    from clusterctl.cli.progress import Asking
    from clusterctl.errors import ClusterctlError
    from clusterctl.session.pull import pull

    try:
        with Asking(tuple(roots)) as asking:
            return pull(directory, roots, target, path=path, on_bytes=asking.arrived, on_done=asking.answered)
    except OSError as error:
        raise ClusterctlError(
            f"cannot write to {target}: {error.strerror}", hint="choose another directory with --to DIR"
        ) from error


def _nothing(run: str, path: str, answers: tuple[Pulled, ...]) -> int:
    """No file came. Raises NoAnswerError where a host is to blame for that, UsageError where PATH is."""
    from clusterctl.cli import screen
    from clusterctl.errors import NoAnswerError, UsageError
    from clusterctl.report.pull import printable

    there = sorted({printable(name) for answer in answers for name in answer.there})
    hint = f"there is: {', '.join(there[:12])}{', ...' if len(there) > 12 else ''}"
    if not there:
        hint = f"clusterctl status {run} shows where it ran"
    problems = [answer for answer in answers if answer.problem]
    if problems:
        first = problems[0]
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise NoAnswerError(f"nothing came; {first.host}: {printable(first.problem)}{others}", hint=hint)
    if path:
        what = f"no `{printable(path)}` in the working directory of run {run} on any host"
        raise UsageError(what, hint=hint)
    if not all(answer.here for answer in answers):
        screen.out().print(f"run {run} made and changed no file in its code", markup=False)
    return 0

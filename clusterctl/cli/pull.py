"""`clusterctl pull`: outputs of a run, from the hosts to here."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from clusterctl.ask.pull import Pulled, Source
    from clusterctl.plan.model import LaunchPlan
    from clusterctl.store.runs import RunDirectory


def command(
    run: Run = "",
    path: Annotated[
        str,
        typer.Argument(
            metavar="[PATH]",
            help="A file or folder in the run's working directory. Default: all it made or changed.",
        ),
    ] = "",
    to: Annotated[
        str, typer.Option("--to", metavar="DIR", help="Default: pulled/RUN; a folder per host in it.")
    ] = "",
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="Only from this host.")] = "",
) -> int:
    """Bring outputs of a run back from the hosts.

    What it brings is marked and never travels with a later run. Exit code 1 when
    something did not come, 64 when PATH is on no host.
    """
    from pathlib import Path

    from clusterctl.cli import screen
    from clusterctl.errors import UsageError
    from clusterctl.inventory.fold import fold
    from clusterctl.report import pull as page
    from clusterctl.store.runs import find_run

    directory = find_run(run or None)
    plan = directory.plan()
    hosts = [node.host for node in plan.nodes]
    if host and host not in hosts:
        raise UsageError(f"{host} took no part in run {plan.run}", hint=f"its hosts: {fold(hosts)}")
    roots = _roots(directory, host)
    target = Path(to).expanduser() if to else Path("pulled") / plan.run
    answers = _pull(directory, roots, path, target)
    if not path:
        _note(directory, answers)
    here = [answer.host for answer in answers if answer.here]
    if here:
        screen.out().print(page.shared(here, roots[here[0]]), soft_wrap=False, crop=False)
    if not any(answer.files for answer in answers):
        return _nothing(plan, path, answers)
    arrivals = [
        page.Arrival(host=answer.host, files=answer.files, problem=answer.problem)
        for answer in answers
        if not answer.here
    ]
    screen.out().print(page.render(arrivals), soft_wrap=False, crop=False)
    screen.out().print(f"in {target}", markup=False)
    return 1 if any(answer.problem for answer in answers) else 0


def _note(directory: RunDirectory, answers: tuple[Pulled, ...]) -> None:
    """`clean` keeps outputs that were never brought here."""
    with suppress(OSError):  # what was pulled is here all the same
        for answer in answers:
            if not answer.problem:
                directory.note_pulled(answer.host)


def _roots(directory: RunDirectory, host: str) -> dict[str, str]:
    """Host -> the run's working directory there, of every host where it started."""
    from clusterctl.errors import UsageError

    started = {
        str(event["host"]): str(event["cwd"]) for event in directory.events() if event["event"] == "started"
    }
    names = [node.host for node in directory.plan().nodes if host in ("", node.host)]
    roots = {name: started[name] for name in names if name in started}
    if not roots:
        where = host or "any host"
        raise UsageError(
            f"run {directory.run} did not start on {where}, so it wrote nothing there",
            hint=f"clusterctl status {directory.run}",
        )
    return roots


def _sources(directory: RunDirectory, roots: Mapping[str, str], path: str, beacon: str) -> dict[str, Source]:
    import time

    from clusterctl.ask.pull import Source

    plan = directory.plan()
    age = time.time() - directory.started()
    return {
        host: Source(
            root=root,
            path=path,
            digest=plan.code.digest,
            subdirectory=plan.code.subdirectory,
            in_place=not _is_copy(plan, root),
            age=age,
            beacon=beacon,
        )
        for host, root in roots.items()
    }


def _is_copy(plan: LaunchPlan, root: str) -> bool:
    """Whether a run's working directory is a copy of its own on that host."""
    return f"/.clusterctl/node/{plan.run}/" in root


@contextmanager
def _beacon(plan: LaunchPlan, roots: Mapping[str, str], path: str) -> Iterator[str]:
    """The name of a file in the directory the run was launched in, as long as hosts may look for it; empty
    where there is nothing to be told by it."""
    import tempfile
    from pathlib import Path

    with ExitStack() as stack:
        name = ""
        if not path and not all(_is_copy(plan, root) for root in roots.values()):
            here = Path(plan.code.root) / plan.code.subdirectory
            with suppress(OSError):  # not here, or not to be written: then no host shares it with us
                made = stack.enter_context(tempfile.NamedTemporaryFile(prefix=".clusterctl-", dir=here))
                name = Path(made.name).name
        yield name


def _pull(directory: RunDirectory, roots: Mapping[str, str], path: str, target: Path) -> tuple[Pulled, ...]:
    from pathlib import Path

    from clusterctl.ask.pull import pull
    from clusterctl.cli import screen
    from clusterctl.errors import ClusterctlError
    from clusterctl.report.pull import size
    from clusterctl.transport import connect

    plan = directory.plan()
    link = connect(plan.transport, Path(plan.ssh_config) if plan.ssh_config else None)
    arrived: dict[str, int] = {}
    try:
        with screen.err().status("asking the hosts") as line, _beacon(plan, roots, path) as beacon:

            def on_bytes(host: str, count: int) -> None:
                arrived[host] = count
                line.update(
                    f"{size(sum(arrived.values()))} so far, from {len(arrived)} of {len(roots)} hosts"
                )

            return pull(link, _sources(directory, roots, path, beacon), target, on_bytes=on_bytes)
    except OSError as error:
        raise ClusterctlError(
            f"cannot write to {target}: {error.strerror}", hint="choose another directory with --to DIR"
        ) from error
    finally:
        link.close()


def _nothing(plan: LaunchPlan, path: str, answers: tuple[Pulled, ...]) -> int:
    """No file came. Raises NoAnswerError where a host is to blame for that, UsageError where PATH is."""
    from clusterctl.cli import screen
    from clusterctl.errors import NoAnswerError, UsageError
    from clusterctl.report.pull import printable

    there = sorted({printable(name) for answer in answers for name in answer.there})
    hint = f"there is: {', '.join(there[:12])}{', ...' if len(there) > 12 else ''}"
    if not there:
        hint = f"clusterctl status {plan.run} shows where it ran"
    problems = [answer for answer in answers if answer.problem]
    if problems:
        first = problems[0]
        others = f" (and {len(problems) - 1} more hosts)" if len(problems) > 1 else ""
        raise NoAnswerError(f"nothing came; {first.host}: {printable(first.problem)}{others}", hint=hint)
    if path:
        what = f"no `{printable(path)}` in the working directory of run {plan.run} on any host"
        raise UsageError(what, hint=hint)
    if not all(answer.here for answer in answers):
        screen.out().print(f"run {plan.run} made and changed nothing in its working directory", markup=False)
    return 0

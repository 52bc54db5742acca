"""`clusterctl pull`: outputs of a run, from the hosts to here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clusterctl.ask.pull import Pulled, Source
    from clusterctl.plan.model import LaunchPlan
    from clusterctl.store.runs import RunDirectory


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, or a beginning of its id.")],
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
    """Bring outputs of a run back from the hosts. Exit code 1 when something did not come, 64 when PATH is
    on no host."""
    from pathlib import Path

    from clusterctl.ask.pull import Source
    from clusterctl.cli import screen
    from clusterctl.errors import UsageError
    from clusterctl.inventory.fold import fold
    from clusterctl.report import pull as page
    from clusterctl.store.runs import find_run

    directory = find_run(run)
    plan = directory.plan()
    hosts = [node.host for node in plan.nodes]
    if host and host not in hosts:
        raise UsageError(f"{host} took no part in run {plan.run}", hint=f"its hosts: {fold(hosts)}")
    roots = _roots(directory, host)
    if not path:
        _require_copies(plan, roots)
    target = Path(to).expanduser() if to else Path("pulled") / plan.run
    source = Source(path=path, digest=plan.code.digest, subdirectory=plan.code.subdirectory)
    answers = _pull(plan, roots, source, target)
    if not any(answer.files for answer in answers):
        raise _nothing(plan, path, answers)
    arrivals = [
        page.Arrival(host=answer.host, files=answer.files, problem=answer.problem) for answer in answers
    ]
    screen.out().print(page.render(arrivals), soft_wrap=False, crop=False)
    screen.out().print(f"in {target}", markup=False)
    return 1 if any(answer.problem for answer in answers) else 0


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


def _require_copies(plan: LaunchPlan, roots: Mapping[str, str]) -> None:
    """Without PATH, what a run wrote is told from its code by the snapshot it was copied from."""
    from clusterctl.errors import UsageError
    from clusterctl.inventory.fold import fold

    in_place = [host for host, root in roots.items() if f"/.clusterctl/node/{plan.run}/" not in root]
    if in_place:
        raise UsageError(
            f"run {plan.run} ran in {roots[in_place[0]]} itself on {fold(in_place)}, not in a copy: "
            "what it wrote cannot be told from what was there",
            hint=f"name a file or folder: clusterctl pull {plan.run} PATH",
        )


def _pull(plan: LaunchPlan, roots: Mapping[str, str], source: Source, target: Path) -> tuple[Pulled, ...]:
    from pathlib import Path

    from clusterctl.ask.pull import pull
    from clusterctl.cli import screen
    from clusterctl.errors import ClusterctlError
    from clusterctl.report.pull import size
    from clusterctl.transport import connect

    link = connect(plan.transport, Path(plan.ssh_config) if plan.ssh_config else None)
    arrived: dict[str, int] = {}
    try:
        with screen.err().status("asking the hosts") as line:

            def on_bytes(host: str, count: int) -> None:
                arrived[host] = count
                line.update(
                    f"{size(sum(arrived.values()))} so far, from {len(arrived)} of {len(roots)} hosts"
                )

            return pull(link, roots, source, target, on_bytes=on_bytes)
    except OSError as error:
        raise ClusterctlError(
            f"cannot write to {target}: {error.strerror}", hint="choose another directory with --to DIR"
        ) from error
    finally:
        link.close()


def _nothing(plan: LaunchPlan, path: str, answers: tuple[Pulled, ...]) -> Exception:
    from clusterctl.errors import NoAnswerError, UsageError
    from clusterctl.report.pull import printable

    problems = [answer for answer in answers if answer.problem]
    if problems:
        first = problems[0]
        others = f" (and {len(problems) - 1} more hosts)" if len(problems) > 1 else ""
        message = f"nothing came; {first.host}: {printable(first.problem)}{others}"
    else:
        what = f"no `{printable(path)}`" if path else "nothing new or changed"
        message = f"{what} in the working directory of run {plan.run} on any host"
    there = sorted({printable(name) for answer in answers for name in answer.there})
    hint = f"there is: {', '.join(there[:12])}{', ...' if len(there) > 12 else ''}"
    kind = NoAnswerError if problems or not path else UsageError
    return kind(message, hint=hint if there else f"clusterctl status {plan.run} shows where it ran")

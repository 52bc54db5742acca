"""`clusterctl pull`: outputs of a run, from the hosts to here."""

from __future__ import annotations

from typing import Annotated

import typer


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
    host: Annotated[str, typer.Option("--host", help="Only from this host.")] = "",
) -> int:
    """Bring outputs of a run back from the hosts."""
    from pathlib import Path

    from clusterctl.ask.pull import pull
    from clusterctl.cli import screen
    from clusterctl.errors import ClusterctlError, UsageError
    from clusterctl.store.runs import find_run
    from clusterctl.transport import connect

    directory = find_run(run)
    plan = directory.plan()
    roots = {
        str(event["host"]): str(event["cwd"]) for event in directory.events() if event["event"] == "started"
    }
    if host and host not in roots:
        raise UsageError(f"{host} took no part in run {plan.run}", hint=f"its hosts: {', '.join(roots)}")
    if not roots:
        raise UsageError(f"run {plan.run} started on no host, so it wrote nothing", hint="clusterctl runs")
    if not path and not plan.code.digest:
        raise UsageError(
            f"run {plan.run} had no copy of its code, so what it wrote cannot be told apart",
            hint=f"name it: clusterctl pull {plan.run} PATH",
        )
    target = Path(to) if to else Path("pulled") / plan.run
    wanted = {name: root for name, root in roots.items() if host in ("", name)}
    link = connect(plan.transport, Path(plan.ssh_config) if plan.ssh_config else None)
    try:
        answers = pull(link, wanted, path, plan.code.digest, target)
    finally:
        link.close()
    for answer in answers:
        size = sum(answer.files.values())
        text = answer.problem or f"{len(answer.files)} files, {size / 10**6:.1f} MB"
        screen.out().print(f"{answer.host}  {text}")
    if not any(answer.files for answer in answers):
        there = sorted({name for answer in answers for name in answer.there})
        what = f"no `{path}`" if path else "nothing new"
        raise ClusterctlError(
            f"{what} in the working directory of run {plan.run} on any host",
            hint=f"there is: {', '.join(there[:12])}" if there else "clusterctl status shows where it ran",
        )
    screen.out().print(f"in {target}")
    return 125 if any(answer.problem for answer in answers) else 0

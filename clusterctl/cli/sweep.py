"""`clusterctl sweep`: what dead runs left on the hosts is found, shown, and ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli import options
from clusterctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clusterctl.ask.sweep import Swept
    from clusterctl.session.sweep import Sweep


def command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Only what is left of these runs; whole ids."),
    ] = None,
    hostfile: options.Hostfile = "",
    cluster_name: options.Cluster = "",
    include: options.Include = "",
    exclude: options.Exclude = "",
    nodes: options.Nodes = None,
    shm: Annotated[
        bool,
        typer.Option("--shm", help="Also shared memory of torch, NCCL and Python that no process has open."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is left.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
) -> int:
    """End what is left on the hosts of runs whose controller and agents are dead, whoever started them.

    Processes that bear a run's mark and that no agent looks after, and files that tell them what to do. A run
    that lives is let alone, another controller's too, and so is everything that is no run's. It says what it
    has found and asks first. Exit code 1: a host gave no answer, or something could not be ended.
    """
    from clusterctl.cli import screen
    from clusterctl.cli.progress import Asking
    from clusterctl.report import sweep as page
    from clusterctl.session import sweep as session
    from clusterctl.session.cluster import Cluster
    from clusterctl.store.home import is_run_id

    if shm and runs:
        raise UsageError("--shm is of no run", hint="leave out the runs, or --shm")
    for run in runs or ():
        if not is_run_id(run):
            raise UsageError(f"`{run}` is not the whole id of a run", hint="clusterctl runs")
    cluster = Cluster.from_hostfile(
        hostfile,
        nodes=nodes,
        include=include,
        exclude=exclude,
        ssh_config=ssh_config,
        transport=transport,
        cluster=cluster_name,
    )
    if not (dry_run or yes or (sys.stdin.isatty() and sys.stderr.isatty())):
        raise UsageError(
            "sweep asks before it ends anything, and here is no terminal", hint="--yes, or --dry-run"
        )
    screen.print_warnings(cluster.warnings)
    screen.err().print(cluster.hosts.how, style="dim")
    with Asking(cluster.names) as asking:
        found = session.look(cluster.target, runs=runs or (), shm=shm, on_done=asking.answered)
    _show(found)
    left = [host for host in found.seen if host.found]
    if not left or dry_run:
        return 0 if found.complete else 1
    if not yes and not _agreed(left):
        screen.err().print("nothing was ended")
        return 0 if found.complete else 1
    with Asking([host.host for host in left], "ending it") as asking:
        found = session.end(cluster.target, found, runs=runs or (), shm=shm, on_done=asking.answered)
    answered = [host for host in found.ended or () if not host.problem]
    if answered:
        counts = {host.host: host.left for host in answered if host.left}
        screen.out().print(page.proof(len(answered), counts))
    _complain(found.ended or ())
    return 0 if found.complete else 1


def _show(found: Sweep) -> None:
    from clusterctl.cli import screen
    from clusterctl.report import sweep as page
    from clusterctl.report.findings import brief

    alive: dict[str, list[str]] = {}
    for host in found.seen:
        if host.found:
            screen.out().print(page.found(host.host, host.processes, host.files))
        if host.strays:
            screen.out().print(page.strays(host.host, host.strays))
        for run in host.living:
            alive.setdefault(run.run, []).append(host.host)
    clean = [host.host for host in found.seen if not (host.found or host.strays or host.problem)]
    if clean:
        screen.out().print(f"{brief(clean)}: nothing is left", highlight=False)
    if alive:
        screen.err().print(page.let_alone(alive))
    _complain(found.seen)


def _complain(hosts: Sequence[Swept]) -> None:
    from clusterctl.cli import screen
    from clusterctl.report.findings import brief
    from clusterctl.report.harmless import harmless

    alike: dict[str, list[str]] = {}
    for host in hosts:
        if host.problem:
            alike.setdefault(host.problem, []).append(host.host)
        for why in host.unremoved:
            screen.complain("warning", f"{host.host}: not removed: {harmless(why)}")
        if host.left:
            screen.complain(
                "warning",
                f"{host.host}: what could not be ended waits in the kernel, or is another user's",
                f"clusterctl exec -i {host.host} -- ps -eo pid,user,stat,wchan,args",
            )
    for problem, names in alike.items():
        screen.complain("error", f"{brief(names)}: {harmless(problem)}", "try again when it answers")


def _agreed(left: Sequence[Swept]) -> bool:
    from clusterctl.report.findings import brief
    from clusterctl.report.sweep import counted

    what = counted(
        [each for host in left for each in host.processes], [each for host in left for each in host.files]
    )
    sys.stderr.write(f"end {what} on {brief(host.host for host in left)}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")

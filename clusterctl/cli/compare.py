"""`clusterctl compare`: the same job under several strategies, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli import options

if TYPE_CHECKING:
    from clusterctl.advise.compare.model import Comparison

_DEFAULT = "ddp,zero1,zero2,zero3"


def command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCRIPT [ARGS]...]",
            help="{strategy}, {config} and {steps} in ARGS are filled in; -- --d_model 512 is for the "
            "shipped script.",
        ),
    ] = None,
    strategies: Annotated[
        str,
        typer.Option(
            "--strategies",
            metavar="A,B,...",
            callback=options.not_empty,
            help="Names, or files where ARGS hold {config}.",
        ),
    ] = _DEFAULT,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Steps of each run.")] = 30,
    warmup: Annotated[
        int,
        typer.Option(
            "--warmup", metavar="N", min=3, help="Of them not timed; tensors are counted in the first 2."
        ),
    ] = 5,
    repeats: Annotated[
        int, typer.Option("--repeats", metavar="N", min=1, help="How often each runs: A B C A B C.")
    ] = 2,
    html: Annotated[
        str, typer.Option("--html", metavar="FILE", callback=options.not_empty, help="The page, one file.")
    ] = "",
    json: Annotated[
        str,
        typer.Option("--json", metavar="FILE", callback=options.not_empty, help="The record, for a program."),
    ] = "",
    again: Annotated[
        str,
        typer.Option(
            "--from", metavar="RECORD", callback=options.not_empty, help="Runs nothing: shows a record again."
        ),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    hostfile: options.Hostfile = "",
    cluster_name: options.Cluster = "",
    include: options.Include = "",
    exclude: options.Exclude = "",
    nodes: options.LaunchNodes = None,
    gpus_per_node: options.LaunchGpusPerNode = None,
    env: options.Env = None,
    profile: options.Profile = "",
    venv_script: options.VenvScript = "",
    workdir: Annotated[
        str, typer.Option("--workdir", metavar="DIR", callback=options.not_empty, help="As for launch.")
    ] = "",
    time_limit: Annotated[
        str, typer.Option("--time-limit", metavar="TIME", help="Stop a run after this long: 90s, 10m, 2h.")
    ] = "",
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
    ssh_port: options.SshPort = None,
) -> int:
    """Run one job under several strategies in turn; compare memory, speed, traffic and losses; recommend one.

    Ctrl-C ends it and shows what there is. Exit code 1: no strategy could be measured.
    """
    from clusterctl import __version__
    from clusterctl.cli import new_file, screen
    from clusterctl.cli.comparing import Screen
    from clusterctl.cli.progress import Asking
    from clusterctl.errors import UsageError
    from clusterctl.report import launch as page
    from clusterctl.session import compare as session
    from clusterctl.session.cluster import Cluster
    from clusterctl.session.options import LaunchOptions
    from clusterctl.session.refused import NotReadyError

    outputs = {option: Path(name) for option, name in (("--html", html), ("--json", json)) if name}
    for option, output in outputs.items():
        new_file.check(output, option, force=force)
    if again:
        if words:
            raise UsageError("--from shows a record, and runs no script", hint="leave out one of them")
        record = session.read(Path(again))
        _show(record, outputs, force=force)
        return 0 if any(trial.ending == "measured" for trial in record.trials) else 1
    if words and not words[0]:
        raise UsageError("SCRIPT is an empty text", hint="is a shell variable not set?")
    script, *arguments = ["", *(words or [])] if not words or words[0].startswith("-") else words
    wanted = session.Wanted(
        strategies=tuple(filter(None, map(str.strip, strategies.split(",")))),
        options=LaunchOptions(
            script=script,
            arguments=tuple(arguments),
            env=tuple(env or ()),
            workdir=workdir,
            time_limit=options.seconds(time_limit, "--time-limit") if time_limit else None,
        ),
        steps=steps,
        warmup=warmup,
        repeats=repeats,
    )
    session.check(wanted)
    cluster = Cluster.from_hostfile(
        hostfile,
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        include=include,
        exclude=exclude,
        ssh_config=ssh_config,
        ssh_port=ssh_port,
        profile=profile,
        venv_script=venv_script,
        transport=transport,
        cluster=cluster_name,
    )
    screen.print_warnings(cluster.warnings)
    screen.err().print(cluster.hosts.how, style="dim")
    comparing = session.Comparing(cluster, wanted, version=__version__, progress=Asking)
    interrupted = False
    _end_as_by_ctrl_c()
    try:
        with Screen(comparing) as shown:
            comparing.run(shown)
    except NotReadyError as refused:
        seen = refused.examination
        screen.err().print(page.refusal(seen.report, seen.network, cluster.hosts.inventory), soft_wrap=False)
        return refused.exit_code
    except KeyboardInterrupt:
        if not comparing.record.trials:
            raise
        interrupted = True
    record = comparing.record
    _keep_page(record)
    _show(record, outputs, force=force)
    if interrupted:
        raise KeyboardInterrupt
    return 0 if any(trial.ending == "measured" for trial in record.trials) else 1


def _end_as_by_ctrl_c() -> None:
    """A terminal that is closed, and SIGTERM: the run that goes on is stopped on its hosts, too."""
    import signal

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, interrupt)


def _keep_page(record: Comparison) -> None:
    from clusterctl.advise.compare.judge import judge
    from clusterctl.cli import screen
    from clusterctl.report.html import compare as pages
    from clusterctl.store import comparisons

    text = pages.page(record, judge(record))
    path = comparisons.keep(record.id, "comparison.html", text.encode())
    screen.err().print(
        f"kept in {screen.at_home(path.parent)}: comparison.json, comparison.html", style="dim"
    )


def _show(record: Comparison, outputs: dict[str, Path], *, force: bool) -> None:
    from clusterctl.advise.compare.judge import judge
    from clusterctl.cli import new_file, screen
    from clusterctl.report import compare
    from clusterctl.report.html import compare as pages
    from clusterctl.session.compare import encode

    judged = judge(record)
    screen.show(compare.render(record, judged))
    for option, output in outputs.items():
        text = pages.page(record, judged) if option == "--html" else encode(record).decode()
        new_file.write(output, text, option, force=force)
        screen.err().print(f"wrote {output}")

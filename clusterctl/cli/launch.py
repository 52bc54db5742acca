"""`clusterctl launch`: a quick look at the hosts, a plan, then the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from clusterctl.cli import options

if TYPE_CHECKING:
    from clusterctl.errors import ClusterctlError
    from clusterctl.plan.model import Engine, Notify, Setting, Track


def command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCRIPT [ARGS]...]",
            help="Everything after SCRIPT is its own; -- --steps 5 is for the shipped one.",
        ),
    ] = None,
    hostfile: options.Hostfile = "",
    cluster_name: options.Cluster = "",
    include: options.Include = "",
    exclude: options.Exclude = "",
    nodes: options.LaunchNodes = None,
    gpus_per_node: options.LaunchGpusPerNode = None,
    engine: Annotated[
        Literal["torchrun", "deepspeed"] | None,
        typer.Option("--engine", help="Who starts the ranks. Default: torchrun."),
    ] = None,
    launcher: options.Launcher = "",
    force_multi: options.ForceMulti = False,
    master_addr: options.MasterAddr = "",
    master_port: options.MasterPort = None,
    env: options.Env = None,
    env_file: options.EnvFile = "",
    profile: options.Profile = "",
    venv_script: options.VenvScript = "",
    home_caches: options.HomeCaches = False,
    workdir: Annotated[
        str,
        typer.Option(
            "--workdir",
            metavar="DIR",
            callback=options.not_empty,
            help="Copied to the hosts. Default: the git repository around here, or this directory.",
        ),
    ] = "",
    no_sync: Annotated[
        bool, typer.Option("--no-sync", help="The working directory is on every host already.")
    ] = False,
    sync_limit: Annotated[
        str, typer.Option("--sync-limit", metavar="SIZE", help="Copy up to this much, such as 500MB.")
    ] = "",
    module: Annotated[
        bool, typer.Option("--module", "-m", help="SCRIPT is a module: python -m SCRIPT.")
    ] = False,
    no_python: Annotated[bool, typer.Option("--no-python", help="SCRIPT is a program of its own.")] = False,
    no_local_rank: Annotated[
        bool, typer.Option("--no-local-rank", help="With deepspeed: do not add --local_rank=N.")
    ] = False,
    time_limit: Annotated[
        str, typer.Option("--time-limit", metavar="TIME", help="Stop the run after this long: 90s, 10m, 2h.")
    ] = "",
    log_limit: Annotated[
        str,
        typer.Option(
            "--log-limit",
            metavar="SIZE",
            callback=options.not_empty,
            help="Keep so much of each rank's log, its beginning and the newest: 1GB, 200MB; 0 = all.",
            show_default="1GB",
        ),
    ] = "",
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Rank 0 reads what this command gets on its standard input.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all ranks are up; the run needs no terminal.")
    ] = False,
    on_disconnect: Annotated[
        Literal["stop", "continue"] | None,
        typer.Option(
            "--on-disconnect",
            help="What hosts do when no controller is left: stop after 60 s (default), continue for 24 h "
            "(default with --detach).",
        ),
    ] = None,
    max_restarts: Annotated[
        int,
        typer.Option(
            "--max-restarts",
            metavar="K",
            min=0,
            help="After a failure start all ranks again, up to K times in the same run.",
        ),
    ] = 0,
    spares: Annotated[
        str,
        typer.Option(
            "--spares",
            metavar="N|HOSTS",
            help="The last N hosts, or those named, get no ranks; a restart puts one in a lost host's place.",
        ),
    ] = "",
    checkpoint_dir: Annotated[
        str,
        typer.Option(
            "--checkpoint-dir",
            metavar="DIR",
            help="Where SCRIPT saves: a restart goes on from the newest checkpoint there that is whole.",
        ),
    ] = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="The first attempt, too, goes on from such a checkpoint.")
    ] = False,
    hang_timeout: Annotated[
        str,
        typer.Option(
            "--hang-timeout",
            metavar="TIME",
            help="Look at the ranks when they show no sign of work for this long. 0 = off. Default: 10m, or "
            "more where the run is used to that.",
        ),
    ] = "",
    on_hang: Annotated[
        Literal["stop", "report"],
        typer.Option("--on-hang", help="What follows when they hang for certain: stop, or only say so."),
    ] = "stop",
    on_end: Annotated[
        str,
        typer.Option(
            "--on-end",
            metavar="CMD",
            callback=options.not_empty,
            help="For `sh -c` here when the run is over, with $CLUSTERCTL_STATUS, _EXIT_CODE, _CAUSE, _RUN, "
            "_OUTCOME.",
        ),
    ] = "",
    track: Annotated[
        Literal["wandb", "trackio", "none"] | None,
        typer.Option(
            "--track", help="Send the run's metrics there. Default: as [track] in config.toml says."
        ),
    ] = None,
    notify: Annotated[
        list[str] | None,
        typer.Option(
            "--notify",
            metavar="bell|desktop",
            help="At the end, also with --detach: the bell where it is watched, the desktop by notify-send. "
            "Repeatable; a command of yours is --on-end.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start although the hosts or the script's ds_config would fail.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every host's command and variables; start nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: the plan as JSON.")] = False,
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
    ssh_port: options.SshPort = None,
) -> int:
    """Train on all hosts: SCRIPT, or without one the shipped ZeRO-2 workload.

    Exit code: 0, or the code of the rank that failed first; 120 refused before the start, 121 a host was
    lost, 122 it hung, 123 stopped by you, 124 time limit, 125 a fault of clusterctl itself.
    """
    from clusterctl.cli import following, screen
    from clusterctl.cli.progress import Asking
    from clusterctl.errors import UsageError
    from clusterctl.plan import nested
    from clusterctl.session.cluster import Cluster
    from clusterctl.session.options import LaunchOptions
    from clusterctl.session.refused import NotReadyError

    if as_json and not dry_run:
        raise UsageError(
            "--json goes with --dry-run", hint="outcome.json in the run directory tells how it ended"
        )
    if words and not words[0]:
        raise UsageError("SCRIPT is an empty text", hint="is a shell variable not set?")
    script, *arguments = ["", *(words or [])] if not words or words[0].startswith("-") else words
    wanted = LaunchOptions(
        script=script,
        arguments=tuple(arguments),
        engine=_engine(engine, launcher),
        pdsh=bool(launcher),
        home_caches=home_caches,
        settings=_rendezvous(master_addr, master_port),
        env=tuple(env or ()),
        env_file=env_file,
        workdir=workdir,
        sync=not no_sync,
        sync_limit=sync_limit,
        module=module,
        python=not no_python,
        local_rank=not no_local_rank,
        time_limit=options.seconds(time_limit, "--time-limit") if time_limit else None,
        log_limit=log_limit,
        force=force,
        stdin=stdin,
        on_disconnect=on_disconnect,
        on_end=on_end,
        track=_track(track),
        notify=_notify(notify or []),
        max_restarts=max_restarts,
        spares=spares,
        checkpoint_dir=checkpoint_dir,
        resume=resume,
        hang_timeout=options.seconds_or_off(hang_timeout, "--hang-timeout") if hang_timeout else None,
        on_hang=on_hang,
    )
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
    if not as_json:
        screen.out().print(cluster.hosts.how, style="dim")
    try:
        if detach and not dry_run:
            return following.detach(cluster.prepare_detached(wanted, progress=Asking))
        if not dry_run:
            return following.follow(cluster.open_run(wanted, progress=Asking))
        plan = cluster.plan(options=wanted, detach=detach, progress=Asking)
    except nested.Refused as refused:
        raise refused.after(_typed_before(words or [])) from None
    except NotReadyError as refused:
        from clusterctl.report import launch as page

        seen = refused.examination
        screen.err().print(page.refusal(seen.report, seen.network, cluster.hosts.inventory), soft_wrap=False)
        return refused.exit_code
    except KeyboardInterrupt:  # from the start on, SIGINT is handled
        if not (detach or dry_run):
            screen.err().print("interrupted: nothing was started", style="dim")
        raise
    from clusterctl.report import launch as page

    if as_json:
        typer.echo(page.plan_json(plan))
    else:
        screen.out().print(page.plan_text(plan), soft_wrap=False, crop=False)
    return 0


def _typed_before(words: list[str]) -> list[str]:
    """The options as they were typed before the script and its arguments, without secrets."""
    import sys

    from clusterctl.plan.redaction import Redaction

    typed = sys.argv[2:]
    if sys.argv[1:2] != ["launch"] or typed[len(typed) - len(words) :] != words:
        return []  # called by a program
    before = typed[: len(typed) - len(words)]
    return [Redaction().text(word) for word in (before[:-1] if before[-1:] == ["--"] else before)]


def unknown_option(name: str) -> ClusterctlError | None:
    """Why an option of another launcher is none of launch; None for one that nobody knows."""
    from clusterctl.errors import UsageError
    from clusterctl.plan.launcher_flags import refusal

    why = refusal(name)
    return UsageError(f"launch has no {name}: {why}", hint="clusterctl launch -h") if why else None


def _track(wanted: Literal["wandb", "trackio", "none"] | None) -> Track:
    """What was typed, else what the user's own file says."""
    from clusterctl.session import clusters

    if wanted == "none":
        return ""
    return wanted or cast("Track", clusters.tracking().to)


def _notify(names: list[str]) -> tuple[Notify, ...]:
    from typing import get_args

    from clusterctl.errors import UsageError
    from clusterctl.plan.model import Notify

    known = {name: name for name in get_args(Notify)}
    for name in names:
        if name not in known:
            raise UsageError(f"--notify {name}: bell or desktop", hint="a command of yours: --on-end CMD")
    return tuple(known[name] for name in dict.fromkeys(names))


def _engine(named: Engine | None, launcher: str) -> Engine | None:
    from clusterctl.errors import UsageError
    from clusterctl.plan.launcher_flags import of_deepspeed_launcher

    if launcher and (why := of_deepspeed_launcher(launcher)):
        raise UsageError(f"--launcher {launcher}: {why}", hint="--engine deepspeed")
    if launcher and named == "torchrun":
        raise UsageError("--launcher is DeepSpeed's, --engine is torchrun", hint="keep one of them")
    return "deepspeed" if launcher else named


def _rendezvous(address: str, port: int | None) -> tuple[Setting, ...]:
    from clusterctl.plan.model import Setting

    found = [Setting("MASTER_ADDR", address, "--master-addr")] if address else []
    return (*found, *([Setting("MASTER_PORT", str(port), "--master-port")] if port is not None else []))

"""`clusterctl launch`: a quick look at the hosts, a plan, then the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from clusterctl.cli import options

if TYPE_CHECKING:
    from clusterctl.cli.examine import Examination
    from clusterctl.cli.hosts import Hosts
    from clusterctl.cli.workload import Workload
    from clusterctl.plan.model import LaunchPlan, Request, Setting, Start
    from clusterctl.plan.profile import Profile


def command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCRIPT [ARGS]...]",
            help="Everything after SCRIPT is its own; -- --steps 5 is for the shipped one.",
        ),
    ] = None,
    hostfile: options.Hostfile = "",
    include: options.Include = "",
    exclude: options.Exclude = "",
    nodes: options.Nodes = None,
    gpus_per_node: options.GpusPerNode = None,
    engine: Annotated[
        Literal["torchrun", "deepspeed"],
        typer.Option("--engine", help="Who starts the ranks. deepspeed: over pdsh where there is one."),
    ] = "torchrun",
    env: options.Env = None,
    env_file: Annotated[
        str, typer.Option("--env-file", metavar="FILE", help="KEY=VALUE lines, weaker than --env.")
    ] = "",
    profile: options.Profile = "",
    workdir: Annotated[
        str, typer.Option("--workdir", metavar="DIR", help="Copied to the hosts. Default: this directory.")
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
    force: Annotated[
        bool, typer.Option("--force", help="Start although the quick look at the hosts found failures.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every host's command and variables; start nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: the plan as JSON.")] = False,
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
) -> int:
    """Train on all hosts: SCRIPT, or without one the shipped ZeRO-2 workload.

    Exit code: 0, or the code of the rank that failed first; 120 refused before the start, 121 a host was
    lost, 123 stopped by you, 124 time limit, 125 a fault of clusterctl itself.
    """
    from pathlib import Path

    from clusterctl.cli import examine, hosts, profiles, screen, workload
    from clusterctl.errors import UsageError
    from clusterctl.report import launch as page
    from clusterctl.store.outcome import EXIT_REFUSED
    from clusterctl.transport import connect

    if as_json and not dry_run:
        raise UsageError(
            "--json goes with --dry-run", hint="outcome.json in the run directory tells how it ended"
        )
    limit = options.seconds(time_limit, "--time-limit") if time_limit else None
    script, *arguments = ["", *(words or [])] if not words or words[0].startswith("-") else words
    found = hosts.resolve(
        hostfile or None,
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        include=include,
        exclude=exclude,
        ssh_config=ssh_config or None,
    )
    work = workload.resolve(
        script, module=module, no_python=no_python, workdir=workdir, sync=not no_sync, sync_limit=sync_limit
    )
    wanted = profiles.read(profile)
    settings = _settings(env or [], env_file)
    if not as_json:
        screen.print_warnings(found.inventory)
        screen.out().print(found.how, style="dim")
    link = connect(transport, found.ssh_config)
    try:
        seen = examine.examine(
            found,
            link,
            wanted=wanted,
            env=[f"{setting.name}={setting.value}" for setting in settings],
            torch=False,
            then_more=not dry_run,
            workdir=Path(work.code.root),
        )
        refusal = page.refusal(seen.report, seen.network, found.inventory)
        if refusal is not None and not (force and page.all_connected(seen.network, found.inventory)):
            screen.err().print(refusal, soft_wrap=False)
            return EXIT_REFUSED
        if (not script or engine == "deepspeed") and not force:
            lacking = page.lacking("deepspeed", seen.answers.facts)
            if lacking is not None:
                screen.err().print(lacking, soft_wrap=False)
                return EXIT_REFUSED
        request = _request(
            found,
            seen,
            work,
            wanted,
            profile,
            settings,
            start=_start(engine, simulated=found.simulated),
            arguments=tuple(arguments),
            pass_local_rank=engine == "deepspeed" and not no_local_rank,
            time_limit=limit,
            transport=transport,
        )
        plan = _plan(found, seen, request)
        if dry_run:
            if as_json:
                typer.echo(page.plan_json(plan))
            else:
                screen.out().print(page.plan_text(plan), soft_wrap=False, crop=False)
            return 0
        return _run(plan, work, found, seen, link)
    finally:
        link.close()


def _settings(env: list[str], env_file: str) -> tuple[Setting, ...]:
    """The user's own variables for all hosts, strongest source first."""
    import os
    from pathlib import Path

    from clusterctl.errors import UsageError
    from clusterctl.plan import variables

    layers = [variables.from_options(env, os.environ)]
    if env_file:
        try:
            layers.append(variables.from_file(Path(env_file).read_text(encoding="utf-8"), env_file))
        except OSError as error:
            raise UsageError(f"--env-file {env_file}: {error.strerror}", hint="KEY=VALUE lines") from error
    return variables.strongest(*layers)


def _weaker_settings() -> tuple[Setting, ...]:
    """What comes after the profile: DeepSpeed's files (the one here beats the one at home), then NCCL_*."""
    import os
    from pathlib import Path

    from clusterctl.plan import variables

    name = os.environ.get("DS_ENV_FILE", ".deepspeed_env")
    layers = [
        variables.from_file(path.read_text(encoding="utf-8"), str(path))
        for path in (Path(name), Path.home() / name)
        if path.is_file()
    ]
    return variables.strongest(*layers, variables.from_caller(os.environ))


def _start(engine: str, *, simulated: bool) -> Start:
    """DeepSpeed's launcher goes over pdsh where this machine has both; hosts that share one /tmp cannot."""
    import importlib.util
    import shutil

    if engine == "torchrun":
        return "torchrun"
    over_pdsh = shutil.which("pdsh") and importlib.util.find_spec("deepspeed") and not simulated
    return "deepspeed-pdsh" if over_pdsh else "deepspeed-no-ssh"


def _request(
    hosts: Hosts,
    seen: Examination,
    work: Workload,
    profile: Profile,
    profile_name: str,
    settings: tuple[Setting, ...],
    *,
    start: Start,
    arguments: tuple[str, ...],
    pass_local_rank: bool,
    time_limit: float | None,
    transport: Literal["fabric", "openssh"],
) -> Request:
    from clusterctl.plan import activation, threads, variables
    from clusterctl.plan.model import Request
    from clusterctl.store.runs import new_run_id

    facts = seen.answers.facts
    weaker = _weaker_settings()
    omp_threads = threads.settings(hosts.inventory, facts)
    of_hosts = {
        host: variables.strongest(
            settings,
            variables.from_mapping(profile.env_of(host), f"profile {profile_name}"),
            activation.settings(facts[host], profile_name),
            weaker,
            omp_threads[host],
        )
        for host in hosts.inventory.names
    }
    return Request(
        run=new_run_id(),
        start=start,
        command=work.command,
        arguments=arguments,
        pass_local_rank=pass_local_rank,
        host_settings=of_hosts,
        removed={host: activation.removed(facts[host]) for host in hosts.inventory.names},
        workdirs={host: own for host in hosts.inventory.names if (own := profile.workdir_of(host))},
        code=work.code,
        time_limit=time_limit,
        ssh_config=str(hosts.ssh_config.resolve()) if hosts.ssh_config else "",
        transport=transport,
        gpus={host: len(facts[host].nvidia.gpus) for host in facts},
        pythons={host: facts[host].python.executable for host in facts},
    )


def _plan(hosts: Hosts, seen: Examination, request: Request) -> LaunchPlan:
    from clusterctl.plan.build import build
    from clusterctl.settings import RUN

    port = seen.answers.reachability.master_port or RUN.preferred_master_port
    return build(hosts.inventory, seen.network, request, master_port=port)


def _run(plan: LaunchPlan, work: Workload, hosts: Hosts, seen: Examination, link: object) -> int:
    import getpass
    import signal
    from typing import cast

    from clusterctl.cli import screen
    from clusterctl.cli.terminal import Terminal
    from clusterctl.report import launch as page
    from clusterctl.run.launcher import DeepSpeedLauncher
    from clusterctl.run.supervise import Supervisor
    from clusterctl.store.runs import RunDirectory
    from clusterctl.transport import Transport

    directory = RunDirectory.create(plan)
    directory.write("findings.json", seen.report.findings)
    screen.out().print(page.opening(plan, directory.path), soft_wrap=False, crop=False)
    terminal = Terminal(1)
    live = screen.live(plan, terminal)
    supervisor = Supervisor(
        plan,
        work.tree,
        cast(Transport, link),
        directory,
        clock_offsets={host: facts.clock_offset or 0.0 for host, facts in seen.answers.facts.items()},
        owner=getpass.getuser(),
        screen=live,
        launcher=(
            (lambda wanted: DeepSpeedLauncher(wanted, directory.logs / "deepspeed.log", hosts.ssh_config))
            if plan.start == "deepspeed-pdsh"
            else None
        ),
    )

    def interrupted(number: int, frame: object) -> None:
        supervisor.interrupt()

    ends = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
        ends.append(signal.SIGHUP)
    previous = {number: signal.signal(number, interrupted) for number in ends}
    try:
        outcome = supervisor.run()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    live.flush()
    screen.farewell(terminal, page.closing(plan, outcome, directory.path))
    return outcome.exit_code

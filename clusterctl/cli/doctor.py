"""`clusterctl doctor`: ask every host over SSH, judge the answers, show what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli import options, screen
from clusterctl.errors import UsageError

if TYPE_CHECKING:
    from clusterctl.facts.lasting import Baseline
    from clusterctl.session.examine import Examination
    from clusterctl.session.material import Invocation


def command(
    positional: Annotated[
        str, typer.Argument(metavar="[HOSTFILE]", help="The hostfile; the same as --hostfile.")
    ] = "",
    hostfile: options.Hostfile = "",
    cluster_name: options.Cluster = "",
    include: options.Include = "",
    exclude: options.Exclude = "",
    nodes: options.Nodes = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Facts only: no import of torch, no traffic between the hosts.")
    ] = False,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Traffic between all hosts; else beyond 64 a sample of pairs.")
    ] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Also bandwidth between the hosts, and what idle GPUs do.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too.")] = False,
    profile: options.Profile = "",
    env: options.Env = None,
    env_file: options.EnvFile = "",
    as_json: options.Json = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="CODE", help="These checks and families: gpu or net.mtu,os. Repeatable."
        ),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="CODE=REASON", help="Not this check, and why. Repeatable."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also what passed, and what was skipped and why.")
    ] = False,
    capture: Annotated[
        str,
        typer.Option(
            "--capture",
            metavar="DIR",
            callback=options.not_empty,
            help="Keep what the hosts said in a new folder, without secrets: for --replay, or a bug report.",
        ),
    ] = "",
    replay: Annotated[
        str,
        typer.Option(
            "--replay",
            metavar="DIR",
            callback=options.not_empty,
            help="Judge such a folder; no host is asked.",
        ),
    ] = "",
    hostfile_out: Annotated[
        str,
        typer.Option(
            "--hostfile-out",
            metavar="FILE",
            callback=options.not_empty,
            help="Write a hostfile of the hosts that are ready.",
        ),
    ] = "",
    fix: Annotated[
        bool, typer.Option("--fix", help="Print a script of what would cure the hosts, and nothing else.")
    ] = False,
    fix_out: Annotated[
        str,
        typer.Option(
            "--fix-out", metavar="FILE", callback=options.not_empty, help="Write that script into a file."
        ),
    ] = "",
    apply: Annotated[
        bool,
        typer.Option("--apply", help="Do what is safe of it, after asking, and look again. Never as root."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --apply: do not ask.")] = False,
    save_baseline: Annotated[
        str,
        typer.Option(
            "--save-baseline",
            metavar="FILE",
            callback=options.not_empty,
            help="Keep the state of the hosts, for --baseline.",
        ),
    ] = "",
    baseline: Annotated[
        str,
        typer.Option(
            "--baseline",
            metavar="FILE",
            callback=options.not_empty,
            help="Tell what has changed on each host since.",
        ),
    ] = "",
    html: Annotated[
        str,
        typer.Option("--html", metavar="FILE", callback=options.not_empty, help="Write it as one page, too."),
    ] = "",
    junit: Annotated[
        str,
        typer.Option(
            "--junit",
            metavar="FILE",
            callback=options.not_empty,
            help="And as JUnit XML: a test case for each check and host.",
        ),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace files to be written that exist.")] = False,
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
) -> int:
    """Check every host over SSH: is this a cluster that can train?

    Exit code 0: ready, warnings allowed. 1: something fails. 2: something could not be asked.
    """
    from clusterctl.checks.selection import read
    from clusterctl.cli import cure
    from clusterctl.cli.outputs import Outputs
    from clusterctl.cli.question import Question

    if positional and hostfile and positional != hostfile:
        raise UsageError(f"two hostfiles: {positional} and --hostfile {hostfile}", hint="name one of them")
    if quick and thorough:
        raise UsageError("--quick and --thorough exclude each other", hint="without either it is in between")
    selection = read(only or (), skip or ())
    outputs = Outputs(
        capture=capture,
        hostfile=hostfile_out,
        script=fix_out,
        baseline=save_baseline,
        page=html,
        junit=junit,
        force=force,
    )
    outputs.check()
    if as_json and (fix or apply):
        raise UsageError(
            f"--json and --{'fix' if fix else 'apply'} both want stdout", hint="--fix-out writes a file"
        )
    if apply or yes:
        cure.check(apply=apply, yes=yes, replay=replay, fix=fix)
    question = Question(
        hostfile=hostfile or positional,
        cluster_name=cluster_name,
        include=include,
        exclude=exclude,
        nodes=nodes,
        profile=profile,
        env=tuple(env or ()),
        env_file=env_file,
        transport=transport,
        ssh_config=ssh_config,
        quick=quick,
        all_pairs=all_pairs,
        thorough=thorough,
        selection=selection,
        baseline=_read_baseline(baseline),
    )
    quiet = as_json or fix
    if replay:
        seen = question.replayed(replay)
        invocation = seen.material.invocation
        _announce(f"{invocation.how}, as of {seen.material.taken}", invocation, quiet=quiet)
    else:
        cluster = question.cluster()
        invocation = question.invocation(cluster)
        _announce(invocation.how, invocation, quiet=quiet)
        seen = question.asked(cluster)
    if as_json:
        _print_json(seen)
    elif fix:
        cure.print_script(seen, invocation)
    else:
        _print_page(seen, invocation, verbose=verbose)
    if apply:
        seen = cure.apply(cluster.target, seen, lambda: question.asked(cluster), invocation, yes=yes)
    code = seen.report.exit_code(strict=strict)
    if strict and not as_json and code != seen.report.exit_code():
        screen.err().print("--strict: warnings fail")
    outputs.write(seen, invocation)
    return code


def _read_baseline(file: str) -> Baseline | None:
    if not file:
        return None
    from clusterctl.session.baseline import read

    return read(Path(file))


def _announce(how: str, invocation: Invocation, *, quiet: bool) -> None:
    """Which hosts these are; ``quiet`` where stdout is for something else."""
    if not quiet:
        screen.out().print(how, style="dim")
    screen.print_warnings(invocation.warnings)


def _print_json(seen: Examination) -> None:
    from clusterctl.report import doctor_json

    answers = seen.answers
    typer.echo(
        doctor_json.encode(
            seen.material.inventory,
            answers.facts,
            seen.network,
            seen.report,
            answers.seconds,
            reachability=answers.reachability,
            proof=answers.proof,
        )
    )


def _print_page(seen: Examination, invocation: Invocation, *, verbose: bool) -> None:
    from clusterctl.report import doctor as page

    # Where not all are ready, the suggestion brings a selection of its own.
    launch = invocation.launch(chosen=seen.report.verdict == "ready")
    screen.out().print()
    screen.out().print(
        page.render(
            seen.material.inventory,
            seen.answers.facts,
            seen.network,
            seen.report,
            width=screen.out().width,
            verbose=verbose,
            launch=launch,
            reachability=seen.answers.reachability,
        ),
        soft_wrap=False,
        crop=False,
    )

"""`clusterctl doctor`: ask every host over SSH, judge the answers, show what to do."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli import new_file, options
from clusterctl.errors import UsageError

if TYPE_CHECKING:
    from clusterctl.session.examine import Examination
    from clusterctl.session.material import Invocation


def command(
    positional: Annotated[
        str, typer.Argument(metavar="[HOSTFILE]", help="The hostfile; the same as --hostfile.")
    ] = "",
    hostfile: options.Hostfile = "",
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
    force: Annotated[bool, typer.Option("--force", help="Replace files to be written that exist.")] = False,
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
) -> int:
    """Check every host over SSH: is this a cluster that can train?

    Exit code 0: ready, warnings allowed. 1: something fails. 2: something could not be asked.
    """
    from clusterctl.checks.selection import read
    from clusterctl.cli import cure, outputs, screen
    from clusterctl.cli.progress import Asking
    from clusterctl.session.cluster import Cluster
    from clusterctl.session.material import Invocation

    if positional and hostfile and positional != hostfile:
        raise UsageError(f"two hostfiles: {positional} and --hostfile {hostfile}", hint="name one of them")
    if quick and thorough:
        raise UsageError("--quick and --thorough exclude each other", hint="without either it is in between")
    selection = read(only or (), skip or ())
    if capture:
        from clusterctl.session.capture import check

        check(Path(capture))
    written = {"--hostfile-out": hostfile_out, "--fix-out": fix_out, "--save-baseline": save_baseline}
    if force and not any(written.values()):
        raise UsageError(
            f"--force is of use where a file is written: {', '.join(written)}",
            hint="--hostfile-out FILE --force",
        )
    for option, output in written.items():
        if output:
            new_file.check(Path(output), option, force=force)
    if as_json and (fix or apply):
        raise UsageError(
            f"--json and --{'fix' if fix else 'apply'} both want stdout", hint="--fix-out writes a file"
        )
    if apply or yes:
        cure.check(apply=apply, yes=yes, replay=replay, fix=fix)
    before = None
    if baseline:
        from clusterctl.session.baseline import read as read_baseline

        before = read_baseline(Path(baseline))
    named = hostfile or positional
    reach = [("--ssh-config", ssh_config), ("--profile", profile), ("--env-file", env_file)]
    reach += [("--env", _suggested(setting)) for setting in env or ()]
    reach += [("--transport", transport)] if transport != "fabric" else []
    choose = [("-i", include), ("-e", exclude), ("--nodes", str(nodes or ""))]
    if replay:
        asked = [("HOSTFILE", named), *reach, *choose, ("--quick", quick), ("--all-pairs", all_pairs)]
        asked += [("--thorough", thorough)]
        if found := next((option for option, value in asked if value), ""):
            raise UsageError(
                f"{found} is of no use with --replay: nothing is asked any more",
                hint="--only, --skip, --strict, --json and -v judge and show it otherwise",
            )
        from clusterctl.session.replay import replay as judge_again

        seen = judge_again(replay, selection, before)
        invocation = seen.material.invocation
        if not as_json and not fix:
            screen.out().print(f"{invocation.how}, as of {seen.material.taken}", style="dim")
        screen.print_warnings(invocation.warnings)
    else:
        cluster = Cluster.from_hostfile(
            named,
            nodes=nodes,
            include=include,
            exclude=exclude,
            ssh_config=ssh_config,
            profile=profile,
            transport=transport,
        )
        invocation = Invocation(
            how=cluster.hosts.how,
            # The hostfile's own are findings.
            warnings=cluster.warnings[len(cluster.hosts.inventory.warnings) :],
            hostfile=named,
            ssh_config="" if ssh_config else str(cluster.hosts.ssh_config or ""),
            reach=tuple(each for each in reach if each[1]),
            choose=tuple(each for each in choose if each[1]),
        )
        if not as_json and not fix:
            screen.out().print(invocation.how, style="dim")
        screen.print_warnings(invocation.warnings)

        def examine() -> Examination:
            return cluster.examine(
                env=env or (),
                env_file=env_file,
                quick=quick,
                all_pairs=all_pairs,
                thorough=thorough,
                selection=selection,
                baseline=before,
                progress=Asking,
            )

        seen = examine()
    if as_json:
        _print_json(seen)
    elif fix:
        cure.print_script(seen, invocation)
    else:
        _print_page(seen, invocation, verbose=verbose)
    if apply:
        seen = cure.apply(cluster.target, seen, examine, invocation, yes=yes)
    code = seen.report.exit_code(strict=strict)
    if not as_json and strict and code != seen.report.exit_code():
        screen.err().print("--strict: warnings fail")
    if capture:
        seen.capture(capture, invocation)
        screen.err().print(
            f"what the hosts said is in {capture}; next: clusterctl doctor --replay {shlex.quote(capture)}",
            style="dim",
        )
    if fix_out:
        cure.write_script(seen, invocation, Path(fix_out), force=force)
    if save_baseline:
        outputs.write_baseline(seen, Path(save_baseline), force=force)
    if hostfile_out:
        outputs.write_hostfile(seen, invocation, Path(hostfile_out), force=force)
    return code


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
    from clusterctl.cli import screen
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


def _suggested(setting: str) -> str:
    """As typed, but the value of a secret stays off the screen: launch copies it from the environment."""
    from clusterctl.plan.redaction import Redaction
    from clusterctl.plan.variables import is_secret

    name = setting.partition("=")[0]
    return name if is_secret(name) or Redaction().text(setting) != setting else setting

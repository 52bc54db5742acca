"""`clusterctl doctor`: ask every host over SSH, judge the answers, show what to do."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from clusterctl.cli import options


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
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
) -> int:
    """Check every host over SSH: is this a cluster that can train?

    Exit code 0: ready, warnings allowed. 1: something fails. 2: something could not be asked.
    """
    from clusterctl.checks.selection import read
    from clusterctl.cli import screen
    from clusterctl.cli.progress import Asking
    from clusterctl.errors import UsageError
    from clusterctl.report import doctor as page
    from clusterctl.report import doctor_json
    from clusterctl.session.cluster import Cluster

    if positional and hostfile and positional != hostfile:
        raise UsageError(f"two hostfiles: {positional} and --hostfile {hostfile}", hint="name one of them")
    selection = read(only or (), skip or ())
    named = hostfile or positional
    cluster = Cluster.from_hostfile(
        named,
        nodes=nodes,
        include=include,
        exclude=exclude,
        ssh_config=ssh_config,
        profile=profile,
        transport=transport,
    )
    inventory = cluster.hosts.inventory
    if not as_json:
        screen.out().print(cluster.hosts.how, style="dim")
    screen.print_warnings(cluster.warnings[len(inventory.warnings) :])  # the hostfile's own are findings
    seen = cluster.examine(
        env=env or (),
        env_file=env_file,
        quick=quick,
        all_pairs=all_pairs,
        selection=selection,
        progress=Asking,
    )
    code = seen.report.exit_code(strict=strict)
    if as_json:
        typer.echo(
            doctor_json.encode(inventory, seen.answers.facts, seen.network, seen.report, seen.answers.seconds)
        )
        return code
    told = [("-H", named), ("--ssh-config", ssh_config), ("--profile", profile), ("--env-file", env_file)]
    told += [("--env", _suggested(setting)) for setting in env or ()]
    if transport != "fabric":
        told.append(("--transport", transport))
    if seen.report.verdict == "ready":  # else the suggestion brings a selection of its own
        told += [("-i", include), ("-e", exclude), ("--nodes", str(nodes or ""))]
    launch = " ".join(
        ["clusterctl launch", *(f"{flag} {shlex.quote(value)}" for flag, value in told if value)]
    )
    screen.out().print()
    screen.out().print(
        page.render(
            inventory,
            seen.answers.facts,
            seen.network,
            seen.report,
            width=screen.out().width,
            verbose=verbose,
            launch=launch,
        ),
        soft_wrap=False,
        crop=False,
    )
    if strict and code != seen.report.exit_code():
        screen.err().print("--strict: warnings fail")
    return code


def _suggested(setting: str) -> str:
    """As typed, but the value of a secret stays off the screen: launch copies it from the environment."""
    from clusterctl.plan.variables import is_secret

    name = setting.partition("=")[0]
    return name if is_secret(name) else setting

"""`clusterctl doctor`: ask every host over SSH, judge the answers, show what to do."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli import options

if TYPE_CHECKING:
    from clusterctl.checks.evaluate import Report

EXIT_FAILED = 1
EXIT_UNKNOWN = 2


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
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too.")] = False,
    profile: options.Profile = "",
    env: options.Env = None,
    as_json: options.Json = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also what passed, and what was skipped and why.")
    ] = False,
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
) -> int:
    """Check every host over SSH: is this a cluster that can train?

    Exit code 0: ready, warnings allowed. 1: something fails. 2: something could not be asked.
    """
    from clusterctl.cli.examine import examine
    from clusterctl.cli.hosts import resolve
    from clusterctl.cli.profiles import read
    from clusterctl.cli.screen import err, out
    from clusterctl.errors import UsageError
    from clusterctl.report import doctor as page
    from clusterctl.report import doctor_json
    from clusterctl.transport import connect

    if positional and hostfile and positional != hostfile:
        raise UsageError(f"two hostfiles: {positional} and --hostfile {hostfile}", hint="name one of them")
    named = hostfile or positional
    hosts = resolve(
        named or None, nodes=nodes, include=include, exclude=exclude, ssh_config=ssh_config or None
    )
    if not as_json:
        out().print(hosts.how, style="dim")
    link = connect(transport, hosts.ssh_config)
    try:
        seen = examine(hosts, link, wanted=read(profile), env=env or (), quick=quick)
    finally:
        link.close()
    if as_json:
        text = doctor_json.encode(
            hosts.inventory, seen.answers.facts, seen.network, seen.report, seen.answers.seconds
        )
        typer.echo(text)
        return exit_code(seen.report, strict=strict)
    told = [("-H", named), ("--ssh-config", ssh_config), ("--profile", profile)]
    told += [("--env", setting) for setting in env or ()]
    if seen.report.verdict == "ready":  # else the suggestion brings a selection of its own
        told += [("-i", include), ("-e", exclude), ("--nodes", str(nodes or ""))]
    launch = " ".join(
        ["clusterctl launch", *(f"{flag} {shlex.quote(value)}" for flag, value in told if value)]
    )
    out().print()
    out().print(
        page.render(
            hosts.inventory,
            seen.answers.facts,
            seen.network,
            seen.report,
            width=out().width,
            verbose=verbose,
            launch=launch,
        ),
        soft_wrap=False,
        crop=False,
    )
    if strict and exit_code(seen.report, strict=False) != exit_code(seen.report, strict=True):
        err().print("--strict: warnings fail")
    return exit_code(seen.report, strict=strict)


def exit_code(report: Report, *, strict: bool) -> int:
    """1 if anything fails, else 2 if anything is unknown, else 0; with ``strict`` a warning fails too."""
    severities = {finding.severity for finding in report.findings}
    if report.verdict == "not-ready" or (strict and "warn" in severities):
        return EXIT_FAILED
    return EXIT_UNKNOWN if report.verdict == "unknown" else 0

"""`clusterctl env`: the variables of one host, for people who start by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from clusterctl.cli import options


def command(
    wanted: Annotated[list[str], typer.Argument(metavar="HOST...", help="Hosts of the hostfile.")],
    hostfile: options.Hostfile = "",
    include: options.Include = "",
    exclude: options.Exclude = "",
    nodes: options.Nodes = None,
    profile: options.Profile = "",
    env: options.Env = None,
    as_json: options.Json = False,
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
) -> None:
    """Print what HOST needs in its environment to take part: interface, addresses, ranks.

    The choice is for all hosts of the hostfile together, so all of them are asked.
    """
    from clusterctl.cli.examine import examine
    from clusterctl.cli.hosts import resolve
    from clusterctl.cli.profiles import read
    from clusterctl.cli.screen import err
    from clusterctl.errors import ClusterctlError, UsageError
    from clusterctl.report.env import encode, exports, shell
    from clusterctl.settings import RUN
    from clusterctl.transport import connect

    hosts = resolve(
        hostfile or None, nodes=nodes, include=include, exclude=exclude, ssh_config=ssh_config or None
    )
    for host in wanted:
        if host not in hosts.inventory.names:
            raise UsageError(
                f"{host} is not among the hosts of {hosts.inventory.source}",
                hint=f"its hosts: {', '.join(hosts.inventory.names[:8])}",
            )
    err().print(hosts.how, style="dim")
    link = connect(transport, hosts.ssh_config)
    try:
        seen = examine(hosts, link, wanted=read(profile), env=env or (), torch=False)
    finally:
        link.close()
    port = seen.answers.reachability.master_port or RUN.preferred_master_port
    found = {}
    for host in wanted:
        failure = seen.answers.failures.get(host)
        if failure is not None:
            raise ClusterctlError(f"{host}: {failure.message}", hint=failure.hint)
        if seen.network.of(host) is None:
            raise ClusterctlError(
                seen.network.problem, hint="`clusterctl doctor` shows what every host offers"
            )
        facts = seen.answers.facts[host]
        if facts.activation and facts.activation.error:
            raise ClusterctlError(
                f"{host}: activation line of {profile}: {facts.activation.error}",
                hint=f"try it there: ssh {host}",
            )
        found[host] = exports(hosts.inventory, seen.network, facts, port, profile=profile)
    if as_json:
        typer.echo(encode(found))
    else:
        typer.echo("\n".join(shell(host, variables) for host, variables in found.items()), nl=False)

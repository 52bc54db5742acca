"""`clusterctl env`: the variables of one host, for people who start by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from clusterctl.cli import options


def command(
    wanted: Annotated[list[str], typer.Argument(metavar="HOST...", help="Hosts of the hostfile.")],
    hostfile: options.Hostfile = "",
    cluster_name: options.Cluster = "",
    include: options.Include = "",
    exclude: options.Exclude = "",
    nodes: options.Nodes = None,
    profile: options.Profile = "",
    env: options.Env = None,
    env_file: options.EnvFile = "",
    as_json: options.Json = False,
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
) -> None:
    """Print what HOST needs in its environment to take part: interface, addresses, ranks.

    The choice is for all hosts of the hostfile together, so all of them are asked. Exit code 1 when HOST gave
    no answer or has no network with the others.
    """
    from clusterctl.cli import screen
    from clusterctl.cli.progress import Asking
    from clusterctl.errors import NoAnswerError, UsageError
    from clusterctl.inventory.fold import fold
    from clusterctl.report.env import encode, exports, shell
    from clusterctl.session.cluster import Cluster
    from clusterctl.settings import RUN

    cluster = Cluster.from_hostfile(
        hostfile,
        nodes=nodes,
        include=include,
        exclude=exclude,
        ssh_config=ssh_config,
        profile=profile,
        transport=transport,
        cluster=cluster_name,
    )
    inventory = cluster.hosts.inventory
    for host in wanted:
        if host not in inventory.names:
            raise UsageError(
                f"{host} is not among the hosts of {inventory.source}",
                hint=f"its hosts: {fold(cluster.names)}",
            )
    screen.print_warnings(cluster.warnings)
    screen.err().print(cluster.hosts.how, style="dim")
    seen = cluster.examine(env=env or (), env_file=env_file, torch=False, progress=Asking)
    port = seen.answers.reachability.master_port or RUN.preferred_master_port
    found = {}
    for host in wanted:
        failure = seen.answers.failures.get(host)
        if failure is not None:
            raise NoAnswerError(f"{host}: {failure.message}", hint=failure.hint)
        if seen.network.of(host) is None:
            raise NoAnswerError(seen.network.problem, hint="`clusterctl doctor` shows what every host offers")
        facts = seen.answers.facts[host]
        if facts.activation and facts.activation.error:
            raise NoAnswerError(
                f"{host}: activation line of {profile}: {facts.activation.error}",
                hint=f"try it there: ssh {host}",
            )
        found[host] = exports(
            inventory, seen.network, facts, port, settings=seen.settings[host], profile=profile
        )
    if as_json:
        typer.echo(encode(found))
    else:
        typer.echo("\n".join(shell(host, variables) for host, variables in found.items()), nl=False)

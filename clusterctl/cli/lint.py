"""`clusterctl lint`: what is wrong with a DeepSpeed config. Asks the hosts where it is told to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from clusterctl.cli import options

if TYPE_CHECKING:
    from clusterctl.session.lint import Asked


def command(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="The DeepSpeed config, a file of JSON.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARGS]...", help="The script's own, after --: -- --learning_rate 2e-5."),
    ] = None,
    ranks: Annotated[
        int | None, typer.Option("--ranks", metavar="N", min=1, help="How many ranks will train.")
    ] = None,
    hostfile: options.Hostfile = "",
    cluster_name: options.Cluster = "",
    nodes: options.Nodes = None,
    gpus_per_node: options.GpusPerNode = None,
    reader: Annotated[
        Literal["deepspeed", "transformers", "script"] | None,
        typer.Option(
            "--reader",
            help="Who reads it. Default: transformers where something is auto or ARGS are its own, else "
            "deepspeed. "
            "script: one that fills in what is missing.",
        ),
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="The hosts have no GPU.")] = False,
    ask: Annotated[
        bool,
        typer.Option("--ask", help="Ask the hosts for their DeepSpeed, GPUs and limits, as launch does."),
    ] = False,
    as_json: options.Json = False,
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
) -> int:
    """Judge CONFIG as DeepSpeed would at the start of a run: sizes of batches, unknown keys, conflicts.

    Ranks are those of the hostfile, or --nodes times --gpus-per-node, or --ranks. Exit code 1 when the run
    would fail, 64 for a file that is not there.
    """
    from clusterctl.advise.lint.case import Machines
    from clusterctl.cli import screen
    from clusterctl.report import lint as pages
    from clusterctl.session.lint import lint

    told = _asked(hostfile, cluster_name, nodes, gpus_per_node, ssh_config, transport) if ask else None
    if ranks is None:
        ranks = told[1] if told is not None else _ranks(hostfile, cluster_name, nodes, gpus_per_node)
    found = lint(
        config,
        ranks=ranks,
        reader=reader,
        arguments=arguments or (),
        machines=told[0].machines if told is not None else Machines(cpu=cpu),
        known=told[0].known if told is not None else None,
    )
    if as_json:
        typer.echo(pages.encode(found))
    else:
        screen.show(pages.page(found))
    return 1 if found.failing else 0


def _asked(
    hostfile: str,
    cluster_name: str,
    nodes: int | None,
    gpus_per_node: int | None,
    ssh_config: str,
    transport: Literal["fabric", "openssh"],
) -> tuple[Asked, int]:
    """What the hosts told, and how many ranks they take."""
    from clusterctl.cli import screen
    from clusterctl.cli.progress import Asking
    from clusterctl.inventory.fold import fold
    from clusterctl.session.cluster import Cluster
    from clusterctl.session.lint import ask

    cluster = Cluster.from_hostfile(
        hostfile,
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        ssh_config=ssh_config,
        transport=transport,
        cluster=cluster_name,
    )
    screen.err().print(cluster.hosts.how, style="dim")
    screen.print_warnings(cluster.warnings)
    told = ask(cluster.target, progress=Asking)
    if told.silent:
        screen.err().print(f"{fold(told.silent)} gave no answer: judged by the others")
    return told, cluster.hosts.inventory.world_size


def _ranks(hostfile: str, cluster_name: str, nodes: int | None, gpus_per_node: int | None) -> int | None:
    """Without a hostfile the two numbers say it, or nobody does."""
    counted = nodes is not None or gpus_per_node is not None
    if not (hostfile or cluster_name) and (counted or not Path("hostfile").is_file()):
        return (nodes or 1) * (gpus_per_node or 1) if counted else None
    from clusterctl.session.cluster import Cluster

    cluster = Cluster.from_hostfile(hostfile, nodes=nodes, gpus_per_node=gpus_per_node, cluster=cluster_name)
    return cluster.hosts.inventory.world_size

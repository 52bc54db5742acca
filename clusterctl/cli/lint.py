"""`clusterctl lint`: what is wrong with a DeepSpeed config. Asks nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from clusterctl.cli import options


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
    nodes: options.Nodes = None,
    gpus_per_node: options.GpusPerNode = None,
    reader: Annotated[
        Literal["deepspeed", "transformers", "script"] | None,
        typer.Option(
            "--reader",
            help="Who reads it. Default: transformers where something is auto, else deepspeed. "
            "script: one that fills in what is missing.",
        ),
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="The hosts have no GPU.")] = False,
    as_json: options.Json = False,
) -> int:
    """Judge CONFIG as DeepSpeed would at the start of a run: sizes of batches, unknown keys, conflicts.

    Ranks are those of the hostfile, or --nodes times --gpus-per-node, or --ranks. Exit code 1 when the run
    would fail, 64 for a file that is not there.
    """
    from clusterctl.cli import screen
    from clusterctl.report import lint as pages
    from clusterctl.session.lint import lint

    found = lint(
        config,
        ranks=ranks if ranks is not None else _ranks(hostfile, nodes, gpus_per_node),
        reader=reader,
        arguments=arguments or (),
        cpu=cpu,
    )
    if as_json:
        typer.echo(pages.encode(found))
    else:
        screen.show(pages.page(found))
    return 1 if found.failing else 0


def _ranks(hostfile: str, nodes: int | None, gpus_per_node: int | None) -> int | None:
    """Without a hostfile the two numbers say it, or nobody does."""
    counted = nodes is not None or gpus_per_node is not None
    if not hostfile and (counted or not Path("hostfile").is_file()):
        return (nodes or 1) * (gpus_per_node or 1) if counted else None
    from clusterctl.session.cluster import Cluster

    cluster = Cluster.from_hostfile(hostfile, nodes=nodes, gpus_per_node=gpus_per_node)
    return cluster.hosts.inventory.world_size

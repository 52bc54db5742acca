"""`clusterctl fit`: what a model needs of GPUs, hosts and network under each strategy, and which to take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from clusterctl.cli import options
from clusterctl.errors import UsageError

if TYPE_CHECKING:
    from clusterctl.session.fit import Fit, Machines

_BYTES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL]",
            help="A directory with config.json, such a file, a hub name in the local cache, or a size: 7B.",
        ),
    ] = "",
    params: Annotated[
        str,
        typer.Option("--params", metavar="N", callback=options.not_empty, help="A size instead: 7B, 350M."),
    ] = "",
    sequence: Annotated[
        int | None,
        typer.Option(
            "--seq",
            metavar="TOKENS",
            min=1,
            max=10**9,
            help="Length of a sequence; default: 2048, or as long as the model can.",
        ),
    ] = None,
    micro_batch: Annotated[
        int,
        typer.Option("--micro-batch", metavar="N", min=1, max=4096, help="Sequences of one pass of a GPU."),
    ] = 1,
    gas: Annotated[
        int,
        typer.Option("--gas", metavar="N", min=1, max=10**6, help="Micro-batches accumulated for one step."),
    ] = 1,
    precision: Annotated[Literal["bf16", "fp16", "fp32"], typer.Option("--precision")] = "bf16",
    optimizer: Annotated[Literal["adamw", "sgd"], typer.Option("--optimizer")] = "adamw",
    lora: Annotated[
        bool, typer.Option("--lora", help="Adapters at every linear layer; the rest is frozen.")
    ] = False,
    qlora: Annotated[
        bool, typer.Option("--qlora", help="The same, with the frozen matrices in NF4.")
    ] = False,
    lora_rank: Annotated[
        int | None, typer.Option("--lora-rank", metavar="R", min=1, max=10**5, help="Default: 16.")
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Activations are computed again, layer by layer.")
    ] = False,
    eager_attention: Annotated[
        bool, typer.Option("--eager-attention", help="Attention keeps its matrix of scores.")
    ] = False,
    gpu_memory: Annotated[
        str,
        typer.Option("--gpu-memory", metavar="SIZE", callback=options.not_empty, help="Of one GPU: 24GB."),
    ] = "",
    gpus: Annotated[
        int | None, typer.Option("--gpus", metavar="N", min=1, max=1024, help="Of one host.")
    ] = None,
    hosts: Annotated[
        int | None, typer.Option("--hosts", metavar="N", min=1, max=10**5, help="How many.")
    ] = None,
    host_memory: Annotated[
        str,
        typer.Option("--host-memory", metavar="SIZE", callback=options.not_empty, help="Of one host: 128GB."),
    ] = "",
    bandwidth: Annotated[
        str,
        typer.Option(
            "--bandwidth",
            metavar="RATE",
            callback=options.not_empty,
            help="Between hosts: 1.1GB/s, 10Gbit/s.",
        ),
    ] = "",
    hostfile: options.Hostfile = "",
    cluster_name: options.Cluster = "",
    include: options.Include = "",
    exclude: options.Exclude = "",
    nodes: options.Nodes = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the bandwidth between the hosts, as doctor --thorough.")
    ] = False,
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            metavar="NAME",
            callback=options.not_empty,
            help="Show this one line by line, and --write it; default: the recommended one.",
        ),
    ] = "",
    write: Annotated[
        str,
        typer.Option(
            "--write", metavar="FILE", callback=options.not_empty, help="Write its DeepSpeed config."
        ),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace that file.")] = False,
    as_json: options.Json = False,
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
) -> int:
    """Predict memory and traffic of a training under every strategy, and recommend one.

    The hosts of the hostfile are asked for their memory; with --gpus, --hosts or --gpu-memory nobody is. Exit
    code 1: nothing fits.
    """
    from clusterctl.advise.fit.job import STRATEGIES, Job
    from clusterctl.cli import new_file, screen
    from clusterctl.report import fit as page
    from clusterctl.session import fit as session

    if bool(model) == bool(params):
        raise UsageError(
            "a model and --params" if model else "which model?", hint="clusterctl fit 7B, or a config.json"
        )
    if lora and qlora:
        raise UsageError("--lora and --qlora exclude each other", hint="--qlora is LoRA on packed weights")
    if lora_rank and not (lora or qlora):
        raise UsageError("--lora-rank without adapters", hint="--lora or --qlora with it")
    if params and session.read_size(params) is None:
        raise UsageError(f"--params: {params} is not a size", hint="--params 7B")
    if strategy and strategy not in (names := [each.name for each in STRATEGIES]):
        raise UsageError(f"--strategy: {strategy} is not one of them", hint=", ".join(names))
    output = Path(write) if write else None
    if output is not None:
        new_file.check(output, "--write", force=force)
    read = session.read_model(params or model)
    job = Job(
        sequence=sequence or min(2048, read.shape.limit or 2048),
        micro_batch=micro_batch,
        accumulation=gas,
        precision=precision,
        optimizer=optimizer,
        method="qlora" if qlora else "lora" if lora else "full",
        lora_rank=lora_rank or 16,
        checkpointing=checkpointing,
        flash=not eager_attention,
    )
    rate = _rate(bandwidth) if bandwidth else None
    if gpus or hosts or gpu_memory or host_memory:
        if hostfile or cluster_name or include or exclude or nodes or measure:
            raise UsageError(
                "machines are given, and hosts to ask, too",
                hint="leave out --hostfile, or --gpus and --hosts",
            )
        machines = session.imagined(
            hosts=hosts or 1,
            gpus=gpus,
            device=_size(gpu_memory, "--gpu-memory") if gpu_memory else None,
            host=_size(host_memory, "--host-memory") if host_memory else None,
            bandwidth=rate,
        )
    else:
        machines = _asked(
            hostfile, cluster_name, include, exclude, nodes, ssh_config, transport, measure=measure, rate=rate
        )
    found = session.fit(read, job, machines)
    if strategy and strategy not in (names := [each.strategy.name for each in found.advice.candidates]):
        raise UsageError(
            f"{strategy} is none of what these hosts and this method can do", hint=", ".join(names)
        )
    shown = page.Page(
        model=read.how,
        shape=read.shape,
        job=job,
        world=machines.world,
        notes=machines.notes,
        advice=found.advice,
        strategy=strategy,
    )
    if as_json:
        typer.echo(page.encode(shown))
    else:
        screen.show(page.render(shown))
    if output is not None:
        new_file.write(output, _config(found, strategy), "--write", force=force)
        cpu = " --cpu" * machines.world.on_cpus
        judge = f"clusterctl lint {shlex.quote(str(output))} --ranks {machines.world.size}{cpu}"
        screen.err().print(f"wrote {output}; next: {judge}", style="dim")
    known = any(each.verdict != "unknown" for each in found.advice.candidates)
    return 1 if known and not found.advice.ranked else 0


def _asked(
    hostfile: str,
    cluster_name: str,
    include: str,
    exclude: str,
    nodes: int | None,
    ssh_config: str,
    transport: Literal["fabric", "openssh"],
    *,
    measure: bool,
    rate: float | None,
) -> Machines:
    from clusterctl.cli import screen
    from clusterctl.cli.progress import Asking
    from clusterctl.session.cluster import Cluster
    from clusterctl.session.fit import machines_of

    cluster = Cluster.from_hostfile(
        hostfile,
        nodes=nodes,
        include=include,
        exclude=exclude,
        ssh_config=ssh_config,
        transport=transport,
        cluster=cluster_name,
    )
    screen.err().print(cluster.hosts.how, style="dim")
    screen.print_warnings(cluster.warnings)
    seen = cluster.examine(quick=not measure, thorough=measure, progress=Asking)
    return machines_of(seen, bandwidth=rate)


def _config(found: Fit, name: str) -> str:
    import json

    from clusterctl.advise.fit.config import ds_config

    candidate = found.advice.named(name)
    if candidate is None:
        raise UsageError(
            "nothing fits for certain, and no config was written", hint="--strategy zero2 names one"
        )
    config = ds_config(found.model.shape, found.job, candidate.strategy, on_cpu=found.machines.world.on_cpus)
    return json.dumps(config, indent=2) + "\n"


def _size(text: str, option: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise UsageError(f"{option}: {text!r} is not a size", hint=f"{option} 24GB, or 24GiB")
    unit = found[2].upper()
    return round(float(found[1]) * (_BINARY if found[3] and unit else _BYTES)[unit])


def _rate(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(B/s|bit/s|bps|b/s)", text.strip())
    if found is None or float(found[1]) == 0:
        raise UsageError(f"--bandwidth: {text!r} is not a rate", hint="--bandwidth 1.1GB/s, or 10Gbit/s")
    return float(found[1]) * _BYTES[found[2]] / (1 if found[3] == "B/s" else 8)

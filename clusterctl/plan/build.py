"""Inventory + network + request -> LaunchPlan. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from clusterctl.inventory.model import Host, Inventory
from clusterctl.network.model import HostNetwork, Network
from clusterctl.plan.activation import without
from clusterctl.plan.caches import ORIGIN
from clusterctl.plan.model import LaunchPlan, NodePlan, Request, Setting
from clusterctl.plan.variables import strongest


def build(inventory: Inventory, network: Network, request: Request, *, master_port: int) -> LaunchPlan:
    """Ranks follow hostfile order; every variable says where it comes from.

    ``network`` must cover every host of ``inventory``.
    """
    nodes: list[NodePlan] = []
    first_rank = 0
    for node_rank, host in enumerate(inventory.hosts):
        chosen = network.of(host.name)
        assert chosen is not None, host.name
        ranks = tuple(range(first_rank, first_rank + len(host.slots)))
        first_rank += len(ranks)
        own = strongest(request.host_settings.get(host.name, ()), request.settings)
        settings = settings_of(host, chosen, own, gpus=request.gpus.get(host.name, 0))
        nodes.append(
            NodePlan(
                host=host.name,
                node_rank=node_rank,
                slots=host.slots,
                declared_slots=host.declared_slots,
                ranks=ranks,
                address=chosen.address,
                ifname=chosen.ifname,
                python=request.pythons[host.name],
                settings=settings,
                removed=without(request.removed.get(host.name, ()), settings),
                workdir=request.workdirs.get(host.name, ""),
                caches=request.caches.get(host.name, "") if any(s.origin == ORIGIN for s in settings) else "",
            )
        )
    return LaunchPlan(
        run=request.run,
        start=request.start,
        command=request.command,
        arguments=request.arguments,
        pass_local_rank=request.pass_local_rank,
        world_size=first_rank,
        master_addr=network.master_addr,
        master_port=master_port,
        nodes=tuple(nodes),
        code=request.code,
        hostfile=inventory.source,
        ssh_config=request.ssh_config,
        transport=request.transport,
        enter=f"/tmp/clusterctl-{request.run}/enter" if request.start == "deepspeed-pdsh" else "",
        pdsh_ssh_args=request.pdsh_ssh_args if request.start == "deepspeed-pdsh" else "",
        time_limit=request.time_limit,
        on_disconnect=request.on_disconnect,
        on_end=request.on_end,
        launched_in=request.launched_in,
        notify=request.notify,
        notes=request.notes,
        log_limit=request.log_limit,
        attempt=request.attempt,
        checkpoint_dir=request.checkpoint_dir,
        resume=request.resume,
        resume_arguments=request.resume_arguments,
        hangs=request.hangs,
        track=request.track,
    )


def settings_of(host: Host, chosen: HostNetwork, own: Iterable[Setting], *, gpus: int) -> tuple[Setting, ...]:
    """All that a run sets on ``host``: ``own`` is the user's; the network and what nobody set give way."""
    net = (Setting(name, value, chosen.origins.get(name, "network")) for name, value in chosen.env.items())
    return strongest(own, net, _ours(host, gpus))


def _ours(host: Host, gpus: int) -> tuple[Setting, ...]:
    """What clusterctl sets where nobody else did."""
    ours = [Setting("PYTHONUNBUFFERED", "1", "clusterctl")]
    if gpus and host.slots != tuple(range(gpus)):
        devices = ",".join(map(str, host.slots))
        ours.append(Setting("CUDA_VISIBLE_DEVICES", devices, "slots of the hostfile"))
    return tuple(ours)

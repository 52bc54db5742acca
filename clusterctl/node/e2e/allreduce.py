"""One rank of a real all-reduce, as training makes it: a store on rank 0, a group, a sum.

Runs under the training interpreter (`program`). Tells its stage after each step: ``begun``, ``store``,
``group``, ``reduced``. An error is told with the stage that was reached, and the process stays: that it goes
away would only look to the others like a second fault.
"""

import os
import socket
import time

FILLER = 1 << 16


def main(order, tell):
    for name in set(os.environ) - set(order["environ"]):
        del os.environ[name]
    os.environ.update(order["environ"])
    stage = "begun"
    tell({"stage": stage})
    try:
        for stage, found in _steps(order):
            tell(dict(found, stage=stage))
    except BaseException as error:  # a library may raise anything, and the others must learn of it
        return {"stage": stage, "error": "%s: %s" % (type(error).__name__, error)}
    return {"stage": stage, "done": True}


def _steps(order):
    """(stage reached, what is to be told of it)."""
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    rank, world = order["rank"], order["world"]
    timeout = timedelta(seconds=order["timeout"])
    if order["device"].startswith("cuda"):
        torch.cuda.set_device(torch.device(order["device"]))
    if rank:  # the store is open by now, and torch would try for minutes what the kernel refuses
        socket.create_connection((order["master_addr"], order["master_port"])).close()
    store = dist.TCPStore(  # type: ignore[attr-defined]
        order["master_addr"],
        order["master_port"],
        world,
        is_master=rank == 0,
        timeout=timeout,
        wait_for_workers=False,
    )
    yield "store", {"port": store.port}
    dist.init_process_group(order["backend"], store=store, rank=rank, world_size=world, timeout=timeout)
    yield "group", {}
    given = torch.zeros(max(FILLER, world), device=order["device"])
    given[rank] = 1.0
    dist.all_reduce(given)
    sums = given[:world].tolist()
    yield "reduced", {"missing": [each for each, value in enumerate(sums) if value != 1.0]}
    for size in order["sizes"]:
        yield "reduced", {"size": size, "seconds": _seconds(dist, torch, order, size)}


def _seconds(dist, torch, order, size):
    """What one all-reduce of ``size`` bytes takes, at best."""
    cuda = order["device"].startswith("cuda")
    data = torch.ones(size // 4, device=order["device"])
    best = None
    for _ in range(order["repeats"]):
        dist.barrier()
        if cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        dist.all_reduce(data)
        if cuda:
            torch.cuda.synchronize()
        taken = time.perf_counter() - began
        best = taken if best is None else min(best, taken)
        data.fill_(1.0)
    return best

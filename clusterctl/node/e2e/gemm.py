"""What one device does with matrices: first whether the result is right, then how fast.

Runs under the training interpreter (`program`). Tells its stage after each step: ``imported``, ``right``.
"""

import time

RIGHT = 64
AT_LEAST = 0.5
"""Seconds that are measured, after as many to get warm."""


def main(order, tell):
    stage = "begun"
    try:
        import torch

        tell({"stage": "imported"})
        stage, device = "imported", torch.device(order["device"])
        small = torch.ones(RIGHT, RIGHT, device=device)
        wrong = int((small @ small != RIGHT).sum().item())
        if wrong:
            return {"stage": stage, "error": "%d of %d results are wrong" % (wrong, RIGHT * RIGHT)}
        tell({"stage": "right"})
        stage = "right"
        return {"stage": stage, "done": True, "flops": _flops(torch, device, order["size"])}
    except BaseException as error:  # a sick device may make anything of it
        return {"stage": stage, "error": "%s: %s" % (type(error).__name__, error)}


def _flops(torch, device, size):
    """Operations a second."""
    cuda = device.type == "cuda"
    one = torch.randn(size, size, device=device, dtype=torch.bfloat16 if cuda else torch.float32)
    other = one.clone()
    count, rate = 0, 0.0
    for _ in range(2):  # the first is to get warm
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < AT_LEAST:
            torch.matmul(one, other)
            if cuda:
                torch.cuda.synchronize(device)
            count += 1
        rate = 2.0 * size**3 * count / (time.perf_counter() - began)
    return rate

"""An ordinary DDP script on gloo; arguments as those of cheap.py.

`sleep` does not end, `broadcast` enters another collective than the others, `evaluate` and `save` work for
SLOW seconds without a word.
"""

import atexit
import os
import signal
import sys
import time

import torch
import torch.distributed as dist
from copied import copy_of

steps, size, who, what, at, slow = sys.argv[1:]
dist.init_process_group("gloo")
rank = dist.get_rank()
copy = copy_of(rank)


def say(text):
    line = ("%s\n" % text).encode()
    copy.write(line)
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(16, 16))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
if what not in ("evaluate", "save"):
    atexit.register(time.sleep, float(slow))


def evaluate(until):
    total = 0
    while time.monotonic() < until:
        total += sum(range(1000))


def save(until):
    while time.monotonic() < until:
        with open("checkpoint", "wb") as file:
            file.write(bytes(1000))
            file.flush()
            os.fsync(file.fileno())
        time.sleep(0.2)


say("ready")
for step in range(int(steps)):
    if rank == int(who) and step == int(at):
        if what == "raise":
            {}["nothing"]
        if what == "exit":
            sys.exit(7)
        if what == "sleep":
            time.sleep(10**6)
        if what == "broadcast":
            dist.broadcast(torch.ones(100), (rank + 1) % dist.get_world_size())
        elif what in ("evaluate", "save"):
            {"evaluate": evaluate, "save": save}[what](time.monotonic() + float(slow))
        else:
            os.kill(os.getpid(), getattr(signal, what))
    optimizer.zero_grad()
    model(torch.randn(8, 16)).sum().backward()
    optimizer.step()
    time.sleep(0.02)
    say("%d %s" % (step, os.urandom(int(size) // 2).hex()))  # which cannot travel packed
say("done")
dist.destroy_process_group()
os._exit(0)

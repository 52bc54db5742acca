"""An ordinary DDP script on gloo; arguments as those of cheap.py."""

import atexit
import os
import signal
import sys
import time

import torch
import torch.distributed as dist

steps, size, who, what, at, slow = sys.argv[1:]
dist.init_process_group("gloo")
rank = dist.get_rank()
copy = open("/tmp/printed-%d" % rank, "wb", buffering=0)


def say(text):
    line = ("%s\n" % text).encode()
    copy.write(line)
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(16, 16))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
atexit.register(time.sleep, float(slow))
say("ready")
for step in range(int(steps)):
    if rank == int(who) and step == int(at):
        if what == "raise":
            {}["nothing"]
        if what == "exit":
            sys.exit(7)
        os.kill(os.getpid(), getattr(signal, what))
    optimizer.zero_grad()
    model(torch.randn(8, 16)).sum().backward()
    optimizer.step()
    time.sleep(0.02)
    say("%d %s" % (step, "x" * int(size)))
say("done")
dist.destroy_process_group()
os._exit(0)

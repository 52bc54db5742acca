"""Trains nothing and then hangs, each time in another way: ``train.py CASE``, started once per rank."""

import os
import signal
import sys
import threading
import time

import torch
import torch.distributed as dist

RANK = int(os.environ["RANK"])
WORLD = int(os.environ["WORLD_SIZE"])


def steps(count=3):
    for _ in range(count):
        dist.all_reduce(torch.ones(4, 5))


def asleep():
    steps()
    if RANK == 2:
        time.sleep(1000)
    dist.all_reduce(torch.ones(4, 5))


def other_collective():
    steps()
    if RANK == 1:
        dist.barrier()
    dist.all_gather([torch.ones(2) for _ in range(WORLD)], torch.ones(2))


def other_shape():
    steps()
    dist.all_reduce(torch.ones(2_000_000 if RANK == 3 else 4_000_000))
    dist.barrier()


def other_dtype():
    steps()
    dist.all_reduce(torch.ones(4_000_000, dtype=torch.float16 if RANK == 3 else torch.float32))
    dist.barrier()


def other_order():
    a, b = dist.new_group([0, 1, 2, 3]), dist.new_group([0, 1])
    steps()
    if RANK == 0:
        dist.all_reduce(torch.ones(2), group=b)
    dist.all_reduce(torch.ones(2), group=a)
    if RANK == 1:
        dist.all_reduce(torch.ones(2), group=b)


def stopped():
    steps()
    if RANK == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    dist.all_reduce(torch.ones(4, 5))


def nested():
    """Rank 3 sleeps; 2 waits for it in a group of two, 0 and 1 wait for 2 and 3 in that of all."""
    pair = dist.new_group([2, 3])
    steps()
    if RANK == 3:
        time.sleep(1000)
    if RANK == 2:
        dist.all_reduce(torch.ones(2), group=pair)
    dist.all_reduce(torch.ones(4, 5))


def evaluates():
    steps()
    if RANK == 0:
        evaluate(torch.rand(300, 300))
    dist.barrier()


def evaluate(matrix):
    until = time.monotonic() + 1000
    while time.monotonic() < until:
        matrix = (matrix @ matrix).softmax(1)


def saves():
    steps()
    if RANK == 0:
        save(os.environ["SCRATCH"])
    dist.barrier()


def save(directory):
    weights = torch.ones(2_000_000)
    while True:
        with open(os.path.join(directory, "weights.pt"), "wb") as file:
            torch.save(weights, file)
            file.flush()
            os.fsync(file.fileno())
        time.sleep(0.3)


def backward():
    from torch.nn.parallel import DistributedDataParallel

    model = DistributedDataParallel(torch.nn.Linear(64, 64))
    for step in range(5):
        if RANK == 1 and step == 2:
            time.sleep(1000)
        model(torch.rand(8, 64)).sum().backward()


def zero2():
    import deepspeed

    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
    config = {
        "train_micro_batch_size_per_gpu": 8,
        "optimizer": {"type": "AdamW", "params": {"torch_adam": True}},
        "zero_optimization": {"stage": 2, "reduce_bucket_size": 4096},
    }
    engine, *_ = deepspeed.initialize(model=model, config=config)
    for step in range(5):
        if RANK == 1 and step == 2:
            time.sleep(1000)
        engine.backward(engine(torch.rand(8, 64)).sum())
        engine.step()


def left_lock():
    from torch.utils.file_baton import FileBaton

    if RANK < 2:
        FileBaton(os.path.join(os.environ["SCRATCH"], "lock")).try_acquire()
        FileBaton(os.path.join(os.environ["SCRATCH"], "lock")).wait()
    steps()


def receives():
    steps()
    if RANK == 1:
        dist.recv(torch.ones(3), src=0)
    if RANK == 0:
        time.sleep(1000)
    dist.barrier()


def all_receive():
    steps()
    dist.recv(torch.ones(3), src=(RANK + 1) % WORLD)


class Squares(torch.utils.data.Dataset):
    def __len__(self):
        return 100

    def __getitem__(self, index):
        if index == 9 and RANK == 1:
            broken_worker(os.environ["CASE"])
        return torch.tensor(index * index)


def broken_worker(case):
    if case == "worker_asleep":
        time.sleep(1000)
    if case == "worker_stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGKILL)


def loads():
    for batch in torch.utils.data.DataLoader(Squares(), batch_size=4, num_workers=2):
        dist.all_reduce(batch)


def worker_asleep():
    loads()


def worker_stopped():
    loads()


def worker_dead():
    """A worker that the kernel kills while it sends: the rest of its batch never comes."""
    loader = iter(torch.utils.data.DataLoader(Squares(), batch_size=4, num_workers=2))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if RANK == 1:
        os.write(loader._worker_result_queue._writer.fileno(), b"\x7f\xff\xff\xffhalf a batch")
    for batch in loader:
        dist.all_reduce(batch)


def two_locks():
    steps()
    first, second = threading.Lock(), threading.Lock()
    if RANK == 3:
        threading.Thread(target=takes, args=(second, first), daemon=True).start()
        takes(first, second)
    steps(1)


def takes(one, other):
    with one:
        time.sleep(0.5)
        with other:
            pass


def other_members():
    steps()
    group = dist.new_group([0, 1] if RANK < 2 else [0, 1, 2, 3])
    dist.all_reduce(torch.ones(2), group=group)
    dist.barrier()


CASES = {name: value for name, value in globals().items() if callable(value)}


def main(case):
    if case == "not_there" and RANK == 3:
        time.sleep(1000)
    if case == "early_exit" and RANK == 2:
        sys.exit(0)
    dist.init_process_group("gloo")
    if case == "all_early":
        time.sleep(1000)
    CASES[case]()


if __name__ == "__main__":
    main(sys.argv[1])

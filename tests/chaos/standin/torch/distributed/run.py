"""Forks the ranks of one host and ends them as torchrun does: each in a session of its own, TERM to the
groups of the others when one fails, KILL after 30 s, exit code 1. Nothing is agreed on between hosts."""

import argparse
import os
import signal
import subprocess
import sys
import time


def main():
    parser = argparse.ArgumentParser()
    for name in (
        "nnodes",
        "nproc-per-node",
        "node-rank",
        "master-addr",
        "master-port",
        "max-restarts",
        "log-dir",
    ):
        parser.add_argument("--" + name)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    local, node = int(options.nproc_per_node), int(options.node_rank)
    world = local * int(options.nnodes)  # every host of a campaign has as many
    ranks = []
    for index in range(local):
        rank = node * local + index
        env = dict(os.environ, RANK=str(rank), LOCAL_RANK=str(index), WORLD_SIZE=str(world))
        env.update(MASTER_ADDR=options.master_addr, MASTER_PORT=options.master_port)
        ranks.append(
            subprocess.Popen([sys.executable, "-u", *options.command], env=env, start_new_session=True)
        )

    def told(*_):
        raise InterruptedError

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, told)
    try:
        while any(rank.poll() is None for rank in ranks):
            if any(rank.returncode for rank in ranks):
                break
            time.sleep(0.1)
    except InterruptedError:
        end(ranks)
        return 1
    end(ranks)
    return 1 if any(rank.returncode for rank in ranks) else 0


def end(ranks):
    until = time.monotonic() + 30
    for number in (signal.SIGTERM, signal.SIGKILL):
        for rank in ranks:
            if rank.poll() is None:
                os.killpg(rank.pid, number)
        while time.monotonic() < until and any(rank.poll() is None for rank in ranks):
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())

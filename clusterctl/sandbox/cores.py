"""Which cores of this machine a virtual host has for its own."""

from __future__ import annotations

import os


def shares(hosts: int) -> list[list[int]]:
    """One list of CPU numbers a host, as even as it goes; hosts beyond the number of cores share one.

    Real hosts have cores of their own. Without that, every host believes it has all of them, and the threads
    of two training processes spin against each other.
    """
    mine = sorted(os.sched_getaffinity(0))
    if hosts >= len(mine):
        return [[mine[index % len(mine)]] for index in range(hosts)]
    return [mine[index * len(mine) // hosts : (index + 1) * len(mine) // hosts] for index in range(hosts)]

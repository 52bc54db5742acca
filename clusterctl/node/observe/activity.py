"""What the ranks of a node have done so far, as counters: whether that is progress, the controller judges."""

from __future__ import annotations

import contextlib
import os

from ..run.directory import boottime, error_of, start_of
from ..shared.processes import descendants, is_running, process_table
from .connections import Connections
from .counters import io_of, name_of, rdma_bytes, use_of

_DEAD = ("Z", "X")
_LONGEST = 500
COMPILERS = frozenset(
    (
        "ninja", "nvcc", "cicc", "ptxas", "fatbinary", "nvlink", "cudafe++", "hipcc", "cc1plus", "cc1",
        "c++", "g++", "gcc", "clang", "clang++", "collect2", "as", "ld", "ld.lld", "lld", "cmake", "make",
    )
)  # fmt: skip


class Ranks:
    """The ranks of a run directory that run, each with all it has started: what leaves its parents, as
    `worker &` in a shell does, falls to the rank's waiter."""

    def __init__(self, directory, numbers):
        self._directory = directory
        self._numbers = numbers
        self._started: dict[int, dict[str, int]] = {}

    def trees(self):
        """{rank: [its own pid, those of all it has started]}."""
        table = process_table()
        found = {}
        for rank in self._numbers:
            if rank not in self._started:
                report = self._directory.read(start_of(rank))
                if report is None:
                    continue
                self._started[rank] = report
            report = self._started[rank]
            if is_running(report["pid"], report["pid_started"]):
                roots = {report["pid"]}
                if is_running(report["waiter"], report["waiter_started"]):
                    roots.add(report["waiter"])
                below = descendants(roots, table) - {report["pid"]}
                living = sorted(pid for pid in below if table[pid].state not in _DEAD)
                found[rank] = [report["pid"], *living]
        return found

    def raised(self, rank):
        """What ended the script of a rank that may still run, its threads and exit handlers: as ``ValueError:
        why``. "" where nothing has, or where that is not told as `sitecustomize` tells it."""
        error = self._directory.read(error_of(rank))
        if not isinstance(error, dict):
            return ""
        return ("%s: %s" % (error.get("type"), error.get("message")))[:_LONGEST]


class Sampler:
    def __init__(self, directory, ranks, port):
        self._directory = directory
        self._ranks = ranks
        self._port = port

    def sample(self):
        """The fields of ``Activity``."""
        connections = Connections(self._port)
        with contextlib.suppress(OSError):
            connections.look()
        trees = self._ranks.trees()
        return {
            "moment": boottime(),
            "ranks": [self._of(rank, pids, connections) for rank, pids in sorted(trees.items())],
            "rdma": rdma_bytes(),
        }

    def _of(self, rank, pids, connections):
        """The fields of ``RankActivity``, in their order."""
        cpu, faults, moved, written, exchanged = 0.0, 0, 0, 0, 0
        compilers = set()
        for pid in pids:
            used, io = use_of(pid), io_of(pid)
            if used is not None:
                cpu, faults = cpu + used.cpu, faults + used.faults
            if io is not None:
                moved += io.moved
                written += io.written if pid == pids[0] else 0
            with contextlib.suppress(OSError):
                exchanged += sum(connections.of(pid))
            name = name_of(pid)
            if name in COMPILERS:
                compilers.add(name)
        done = [self._printed(rank), round(cpu, 2), faults, exchanged, moved, written]
        return [rank, *done, sorted(compilers), bool(self._ranks.raised(rank))]

    def _printed(self, rank):
        try:
            return os.stat(self._directory.path(self._directory.log_of(rank))).st_size
        except OSError:
            return 0

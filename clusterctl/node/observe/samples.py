"""Samples of this host while a run lives: a line of JSON every few seconds, in a file among its logs.

Nobody waits for anything here: the loop is a thread of the watches, and the GPUs, whose driver may not answer
any more, are asked in another one. What could not be told is null, never 0. docs/metrics.md says what the
numbers are.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time

from ..shared.files import listing, read
from .counters import rdma_traffic

VERSION = 1
INTERVAL = 5.0
# A pause is so many times the CPU that one sample takes: two permille of a core.
PAUSES = 500
LATE = 3
_SECTOR = 512


class HostSamples:
    """``path``: that of the file. ``cards`` tell of the GPUs. Begins with `start`, ends with its process."""

    def __init__(self, path, cards, interval=INTERVAL):
        self._path = path
        self._cards = cards
        self._interval = interval
        self._head = ""

    def start(self):
        for loop in (self._go_on, self._cards.go_on):
            threading.Thread(target=loop, args=(self._interval,), daemon=True).start()

    def _go_on(self, interval):
        before, spent = Counters(), 0.0
        while True:
            time.sleep(max(interval, PAUSES * spent))
            began = time.thread_time()
            now = Counters()
            with contextlib.suppress(OSError):  # a full disk: this one is lost, the next may not be
                self.append(dict(now.since(before), gpus=self._cards.newest(LATE * interval)))
            before, spent = now, time.thread_time() - began

    def append(self, sample):
        """One write: a reader sees whole lines, but for the last on a full disk."""
        head = json.dumps(
            {
                "v": VERSION,
                "cores": os.cpu_count(),
                "memory": memory_of("MemTotal"),
                "swap": memory_of("SwapTotal"),
                "gpus": self._cards.names,
            }
        )
        lines = [json.dumps(sample, separators=(",", ":"))]
        if head != self._head:
            lines.insert(0, head)
        data = "".join(line + "\n" for line in lines).encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(self._path, flags, 0o600)
        try:
            os.write(target, data)
        finally:
            os.close(target)
        self._head = head


class Counters:
    """What this host has counted until now."""

    def __init__(self):
        self.moment = time.monotonic()
        self.cpu = cpu_ticks(read("/proc/stat"))
        self.disk = disk_bytes(read("/proc/diskstats"), physical("/sys/block"))
        self.net = net_bytes(read("/proc/net/dev"), physical("/sys/class/net"))
        self.rdma = rdma_traffic()

    def since(self, before):
        """The fields of a sample: shares and bytes a second since ``before``, and what is so now."""
        seconds = self.moment - before.moment
        swap, free = memory_of("SwapTotal"), memory_of("SwapFree")
        total, available = memory_of("MemTotal"), memory_of("MemAvailable")
        return {
            "t": round(time.time(), 1),
            "cpu": share(before.cpu, self.cpu),
            "mem": None if total is None or available is None else total - available,
            "swap": None if swap is None or free is None else swap - free,
            "disk": rates(before.disk, self.disk, seconds),
            "net": rates(before.net, self.net, seconds),
            "rdma": rates(before.rdma, self.rdma, seconds),
        }


def share(before, now):
    """Of all cores' time, what was not idle: 0 to 1."""
    if before is None or now is None or now[1] <= before[1]:
        return None
    return round(1.0 - min(1.0, max(0.0, (now[0] - before[0]) / (now[1] - before[1]))), 3)


def rates(before, now, seconds):
    """Bytes a second, each way. None where a counter has begun anew."""
    if before is None or now is None or seconds <= 0:
        return None
    grown = [now[0] - before[0], now[1] - before[1]]
    return None if min(grown) < 0 else [round(each / seconds) for each in grown]


def cpu_ticks(text):
    """(idle, all) since boot, over all cores. What guests take is in their hosts' time already."""
    try:
        ticks = [int(each) for each in text.split("\n", 1)[0].split()[1:9]]
        return ticks[3] + ticks[4], sum(ticks)
    except (ValueError, IndexError):
        return None


def disk_bytes(text, names):
    """(read, written) of the disks named."""
    total = None
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 9 and fields[2] in names:
            done, written = total or (0, 0)
            total = (done + int(fields[5]) * _SECTOR, written + int(fields[9]) * _SECTOR)
    return total


def net_bytes(text, names):
    """(received, sent) by the interfaces named; where none of those is here, by all but the loopback."""
    found = {}
    for line in text.splitlines():
        name, colon, numbers = line.partition(":")
        fields = numbers.split()
        if colon and len(fields) > 8 and name.strip() != "lo":
            found[name.strip()] = (int(fields[0]), int(fields[8]))
    counted = [found[name] for name in found if name in names] or list(found.values())
    return (sum(each[0] for each in counted), sum(each[1] for each in counted)) if counted else None


def physical(folder):
    """Names of what there is a device behind, which counts no byte a second time."""
    return {name for name in listing(folder) if os.path.exists("%s/%s/device" % (folder, name))}


def memory_of(name):
    for line in read("/proc/meminfo").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return None

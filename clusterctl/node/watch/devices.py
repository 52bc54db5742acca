"""The link of the training interface, and the GPUs, as one `nvidia-smi` that goes on shows them."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import time
from typing import Any

from ..shared.files import which
from ..shared.processes import die_with_parent

_SIOCGIFFLAGS = 0x8913
_UP, _RUNNING = 0x1, 0x40
QUERY = "index,pci.bus_id,temperature.gpu,clocks_throttle_reasons.hw_thermal_slowdown"
EVERY = 10
HOT, COOL = 90, 85
RESTARTS = 3


class Link:
    def __init__(self, name):
        self._name = name
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def look(self, teller, at_once):
        flags = self._flags()
        down = None if flags is None else not (flags & _UP and flags & _RUNNING)
        text = "%s has no carrier: the training network is cut off here" if down else "%s has carrier again"
        teller.state("link", self._name, down, text % self._name)

    def _flags(self):
        request = struct.pack("16sH14s", self._name.encode()[:15], 0, b"")
        try:
            return struct.unpack("16sH14s", fcntl.ioctl(self._socket, _SIOCGIFFLAGS, request))[1]
        except OSError:
            return 0  # the interface is gone


class Cards:
    """``path`` is where nvidia-smi is looked for; a host without it has nothing to watch."""

    def __init__(self, path=None):
        places = path if path is not None else os.environ.get("PATH", "") + ":/usr/bin:/bin"
        self._tool = which("nvidia-smi", places)
        self._process: Any = None
        self._starts = 0
        self._not_before = 0.0
        self._text = b""
        self._seen: dict[str, str] = {}
        self._cycle: set[str] = set()

    def look(self, teller, at_once):
        if not self._tool:
            return
        if self._process is None and not self._start(teller):
            return
        try:
            data = os.read(self._process.stdout.fileno(), 65536)
        except BlockingIOError:
            return
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            self._take(line.decode("utf-8", "replace"), teller)
        if not data:
            self._process.stdout.close()
            self._process.wait()
            self._process = None
            self._not_before = time.monotonic() + 6 * EVERY

    def _start(self, teller):
        if self._starts > RESTARTS or time.monotonic() < self._not_before:
            return False
        self._starts += 1
        if self._starts > RESTARTS:
            teller.tell("unseen", "gpus", "nvidia-smi ends again and again: GPUs are not watched")
            return False
        parent = os.getpid()
        try:
            self._process = subprocess.Popen(
                [self._tool, "--query-gpu=" + QUERY, "--format=csv,noheader,nounits", "-l", str(EVERY)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: die_with_parent(parent),
            )
        except OSError:
            return False
        os.set_blocking(self._process.stdout.fileno(), False)
        return True

    def _take(self, line, teller):
        """One line: a card, or a complaint."""
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[0].isdigit():
            self._card(*fields, teller=teller)
        elif "Unable to determine the device handle" in line or "is lost" in line:
            teller.state("gpu", "complaint", True, line.strip()[:200])

    def _card(self, index, bus, temperature, slowed, *, teller):
        if index in self._cycle:  # the next round begins: who was not in this one?
            self._judge(teller)
        self._cycle.add(index)
        self._seen.setdefault(index, bus)
        degrees = int(temperature) if temperature.isdigit() else 0
        hot = degrees >= HOT or slowed == "Active"
        cool = degrees < COOL and slowed != "Active"
        text = "GPU %s is at %d C%s" % (
            index,
            degrees,
            ", and slowed down by heat" if slowed == "Active" else "",
        )
        teller.state("gpu", "heat of " + index, True if hot else False if cool else None, text)

    def _judge(self, teller):
        for index, bus in self._seen.items():
            gone = index not in self._cycle
            text = "GPU %s (%s) is not there any more" if gone else "GPU %s (%s) is there again"
            teller.state("gpu", "presence of " + index, gone, text % (index, bus))
        self._cycle = set()

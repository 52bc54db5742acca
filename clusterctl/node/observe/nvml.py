"""NVIDIA GPUs by the driver's own library, which costs no process.

A call may never come back, when the driver hangs: it is made in a thread that nobody waits for. What a card
cannot tell (MIG, boards without a sensor) is None.
"""

from __future__ import annotations

import ctypes
import time

PLACES = (
    "libnvidia-ml.so.1",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
    "/usr/local/nvidia/lib64/libnvidia-ml.so.1",
)
PAUSES = 500
START = 2.0
_MOST_CARDS = 64
_MOST_PROCESSES = 256
_NOT_TOLD = 2**64 - 1
_OK = 0
_NAME = 96
_TEMPERATURE_OF_GPU, _CLOCK_OF_SM = 0, 1


class _Use(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class _Process(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("memory", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


class Cards:
    """`go_on` asks for ever, in a thread of its own; the rest is for others, and never waits."""

    def __init__(self, places=PLACES):
        self.names = None
        self._places = places
        self.rows = None
        self._asked = self._pause = 0.0
        self._driver = None

    def newest(self, age):
        """A row for each card, or None for one that is lost: share of time at work, bytes in use, degrees,
        watts, MHz of its multiprocessors, and why its clocks are held back as NVML's bits. None for all
        where nobody tells, or the last answer is late by more than ``age`` seconds."""
        late = time.monotonic() - self._asked > age + self._pause
        return None if late else self.rows

    def go_on(self, interval):
        time.sleep(START)  # ranks begin now, and have more to do with their cores
        if not self.load():
            return
        while True:
            began = time.thread_time()
            self.ask()
            self._pause = max(interval, PAUSES * (time.thread_time() - began))
            time.sleep(self._pause)

    def ask(self):
        rows = [self._row(index) for index in range(len(self.names or ()))]
        self.rows, self._asked = rows, time.monotonic()

    def holders(self, index):
        """(card, pid, bytes) of processes that compute on it; bytes None where the driver does not tell."""
        handle, many = self._handle(index), (_Process * _MOST_PROCESSES)()
        for version in ("_v3", "_v2"):  # drivers from 510 on, and from 455
            count = ctypes.c_uint(_MOST_PROCESSES)
            asked = "nvmlDeviceGetComputeRunningProcesses" + version
            if handle is not None and self._told(asked, handle, ctypes.byref(count), many):
                return [
                    (index, each.pid, None if each.memory == _NOT_TOLD else each.memory)
                    for each in many[: count.value]
                ]
        return []

    def load(self):
        """Whether there is a driver with cards; before anything is asked."""
        for place in self._places:
            try:
                self._driver = ctypes.CDLL(place)
                break
            except OSError:
                continue
        count = ctypes.c_uint()
        if self._driver is None or not self._told("nvmlInit_v2"):
            return False
        if not self._told("nvmlDeviceGetCount_v2", ctypes.byref(count)) or not count.value:
            return False
        self.names = [self._name(index) for index in range(min(count.value, _MOST_CARDS))]
        return True

    def _told(self, function, *arguments):
        """Whether it did what it was asked for. A driver that is older does not know all of them."""
        try:
            return getattr(self._driver, function)(*arguments) == _OK
        except AttributeError:
            return False

    def _handle(self, index):
        handle = ctypes.c_void_p()
        known = self._told("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        return handle if known else None

    def _name(self, index):
        handle, name = self._handle(index), ctypes.create_string_buffer(_NAME)
        total = self._memory(handle)
        known = handle is not None and self._told("nvmlDeviceGetName", handle, name, ctypes.c_uint(_NAME))
        return [name.value.decode("utf-8", "replace") if known else None, total and total.total]

    def _memory(self, handle):
        memory = _Memory()
        if handle is None or not self._told("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory)):
            return None
        return memory

    def _row(self, index):
        handle = self._handle(index)
        if handle is None:
            return None
        use, memory = _Use(), self._memory(handle)
        used = self._told("nvmlDeviceGetUtilizationRates", handle, ctypes.byref(use))
        row = [
            use.gpu / 100 if used else None,
            memory and memory.used,
            self._number(handle, "nvmlDeviceGetTemperature", _TEMPERATURE_OF_GPU),
            self._watts(handle),
            self._number(handle, "nvmlDeviceGetClockInfo", _CLOCK_OF_SM),
            self._reasons(handle),
        ]
        return row if any(each is not None for each in row) else None

    def _number(self, handle, function, *which):
        found = ctypes.c_uint()
        known = self._told(function, handle, *map(ctypes.c_uint, which), ctypes.byref(found))
        return found.value if known else None

    def _watts(self, handle):
        found = self._number(handle, "nvmlDeviceGetPowerUsage")
        return None if found is None else round(found / 1000)

    def _reasons(self, handle):
        found = ctypes.c_ulonglong()
        for what in ("Event", "Throttle"):  # its newer name, and the older
            if self._told("nvmlDeviceGetCurrentClocks%sReasons" % what, handle, ctypes.byref(found)):
                return found.value
        return None

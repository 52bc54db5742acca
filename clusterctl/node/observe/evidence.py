"""One look at all ranks of a node that seem to hang: processes, stacks, torch's flight recorder.

Each rank is looked at by a thread of its own, because whatever is asked of a process may never be answered.
What is not there when the time is over is said to be missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time

from ..shared.processes import command_of, stat_of
from . import recorder_dump, signalled, stacks
from .connections import Connections
from .counters import io_of, swapped, use_of, wchan_of
from .debug_server import NoAnswer, ask

_ANSWER_TIMEOUT = 5.0
_PY_SPY_TIMEOUT = 15.0
_LOOK_TIMEOUT = 20.0
_MOST_PROCESSES = 64
_MOST_BYTES = 192 * 1024
_CUTS = ((40, 16, 64), (20, 8, 16), (10, 1, 4), (0, 0, 0))


def look(number, ranks, folder, port, places=()):
    """The fields of ``HostEvidence``, within `_LOOK_TIMEOUT` or little more. Files below ``places`` are told
    relative to them: a copy of the code lies elsewhere on each host, and is the same."""
    connections = Connections(port)
    told = True
    try:
        connections.look()
    except OSError:
        told = False
    trees = ranks.trees()
    seen = connections if told else None
    looks = [_RankLook(rank, pids, folder, seen, ranks.raised(rank)) for rank, pids in trees.items()]
    for each in looks:
        each.start()
    deadline = time.monotonic() + _LOOK_TIMEOUT
    for each in looks:
        each.join(max(0.0, deadline - time.monotonic()))
    found = {
        "look": number,
        "time": time.time(),
        "ranks": [each.found() for each in sorted(looks, key=lambda look: look.rank)],
        "swapped": swapped(),
    }
    for rank in found["ranks"]:
        for thread in rank["threads"]:
            thread["frames"] = [[_relative(frame[0], places), *frame[1:]] for frame in thread["frames"]]
    for cut in _CUTS:
        if len(json.dumps(found)) <= _MOST_BYTES:
            break
        _shorten(found["ranks"], *cut)
    return found


def _relative(path, places):
    for place in places:
        if path.startswith(place + "/"):
            return path[len(place) + 1 :]
    return path


def _shorten(ranks, frames, threads, collectives):
    for rank in ranks:
        rank["threads"] = [
            dict(each, frames=each["frames"][:frames]) for each in rank["threads"][: threads or 1]
        ]
        if rank["recorder"] is not None:
            rank["recorder"]["collectives"] = rank["recorder"]["collectives"][-collectives or None :]
        if not threads:
            rank["processes"] = rank["processes"][:8]


class _RankLook(threading.Thread):
    def __init__(self, rank, pids, folder, connections, raised):
        super().__init__(daemon=True)
        self.rank = rank
        self._pids = pids
        self._folder = folder
        self._connections = connections
        self._lock = threading.Lock()
        self._unseen: list[str] = []
        self._finished = False
        self._found = {
            "rank": rank,
            "processes": [],
            "threads": [],
            "source": "",
            "recorder": None,
            "sent": None,
            "received": None,
            "internet": None,
            "raised": raised,
        }

    def found(self):
        """What is there by now; later finds change nothing of it."""
        with self._lock:
            missing = [] if self._finished else ["not all of it could be read in time"]
            return dict(self._found, unseen=[*self._unseen, *missing])

    def run(self):
        self._tell(processes=[self._process(pid) for pid in self._pids[:_MOST_PROCESSES] if stat_of(pid)])
        self._count_bytes()
        pid = self._speaker()
        stat = stat_of(pid) if pid else None
        if pid is None:
            self._miss("no python of it lets its stacks be read")
        elif stat is not None and stat.state in ("T", "t"):
            self._miss("it was stopped by a signal, so it cannot show its stacks")
            self._spy(pid)
        else:
            self._ask(pid)
        with self._lock:
            self._finished = True

    def _tell(self, **fields):
        with self._lock:
            self._found.update(fields)

    def _miss(self, why):
        with self._lock:
            self._unseen.append(why)

    def _process(self, pid):
        stat, used, io = stat_of(pid), use_of(pid), io_of(pid)
        return {
            "pid": pid,
            "parent": stat.parent if stat else 0,
            "command": command_of(pid),
            "state": stat.state if stat else "",
            "wchan": wchan_of(pid),
            "cpu": used.cpu if used else 0.0,
            "major_faults": used.major_faults if used else 0,
            "read": io.read if io else None,
            "written": io.written if io else None,
            "copied": io.copied if io else None,
        }

    def _count_bytes(self):
        if self._connections is None:
            return
        sent = received = internet = 0
        for pid in self._pids:
            with contextlib.suppress(OSError):
                told = self._connections.of(pid)
                sent, received = sent + told[0], received + told[1]
                internet += self._connections.internet_of(pid)
        self._tell(sent=sent, received=received, internet=internet)

    def _speaker(self):
        """The process of the script: its own, or where that is a shell the first below it that is a python
        with something to say."""
        for kind in (".sock", ".stacks"):
            for pid in self._pids:
                if os.path.exists(self._path(pid, kind)):
                    return pid
        return None

    def _path(self, pid, kind):
        return os.path.join(self._folder, "%d%s" % (pid, kind))

    def _ask(self, pid):
        server = self._path(pid, ".sock")
        if os.path.exists(server):
            try:
                self._tell(
                    threads=stacks.parse(_text(ask(server, "dump_traceback", _ANSWER_TIMEOUT))),
                    source="debug server",
                )
                self._tell(recorder=recorder_dump.parse(*self._recorders(server)))
            except NoAnswer as error:
                self._miss(str(error))
        if not self._found["threads"]:
            try:
                text = signalled.stacks(self._path(pid, ".stacks"), pid, _ANSWER_TIMEOUT)
                self._tell(threads=stacks.parse(text), source="faulthandler")
            except NoAnswer as error:
                self._miss(str(error))
        if not self._found["threads"]:
            self._spy(pid)

    def _recorders(self, server):
        """What the recorders of gloo and of NCCL tell. A torch without CUDA does not know the latter."""
        told = [ask(server, "fr_trace_json", _ANSWER_TIMEOUT)]
        with contextlib.suppress(NoAnswer):
            told.append(ask(server, "dump_nccl_trace_json", _ANSWER_TIMEOUT))
        return told

    def _spy(self, pid):
        """py-spy sees into a process that does nothing, where it is installed and the kernel lets it."""
        program = shutil.which("py-spy", path=_path_of(pid))
        if program is None:
            return
        try:
            told = subprocess.run(
                [program, "dump", "--nonblocking", "--json", "--pid", str(pid)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PY_SPY_TIMEOUT,
                check=True,
            )
            self._tell(threads=_spied(json.loads(told.stdout)), source="py-spy")
        except subprocess.CalledProcessError as error:
            said = _text(error.stderr).strip().splitlines()
            self._miss("py-spy: %s" % (said[0] if said else "it failed"))
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            self._miss("py-spy: %s" % error)


def _spied(told):
    """What py-spy tells of threads, as the fields of ``ThreadStack``."""
    found = []
    for number, thread in enumerate(told if isinstance(told, list) else []):
        frames = [
            [str(frame.get("filename", "")), int(frame.get("line") or 0), str(frame.get("name", ""))]
            for frame in thread.get("frames", ())[:100]
        ]
        name = str(thread.get("thread_name") or "")
        found.append({"name": name, "main": name == "MainThread" or number == 0, "frames": frames})
    main = [thread for thread in found if thread["name"] == "MainThread"]
    if main:
        for thread in found:
            thread["main"] = thread is main[0]
    return found[:64]


def _path_of(pid):
    """Where programs of the rank's environment lie: beside its interpreter, then this process's PATH."""
    try:
        own = os.path.dirname(os.readlink("/proc/%d/exe" % pid))
    except OSError:
        own = ""
    return os.pathsep.join(filter(None, (own, os.environ.get("PATH", os.defpath))))


def _text(data):
    return data.decode("utf-8", "replace")

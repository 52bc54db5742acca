"""Runs one command on this node for `clusterctl exec`; nothing of it outlives the controller.

The request is ``{"argv": [...], "timeout": seconds}``. Standard input is the lease: at its end, and at the
timeout, everything the command has started is ended. What a command leaves in the background when it ends by
itself stays, as it would after `ssh host command`.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid

from .shared import processes, wire

GRACE = 2.0
# How long to read on from pipes that a background child of an ended command still holds.
DRAIN = 1.0


def main(request, files):
    tag = "exec-" + uuid.uuid4().hex
    events: queue.Queue[object] = queue.Queue()
    watch(lease_end, events)
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: events.put("lost"))
    try:
        child = subprocess.Popen(
            request["argv"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ, CLUSTERCTL_RUN=tag),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        wire.emit({"stream": "err", "text": "%s: %s\n" % (request["argv"][0], reason)})
        wire.emit({"exit": 126 if isinstance(error, PermissionError) else 127, "timed_out": False})
        return 0
    watch(forward, events, child.stdout, "out")
    watch(forward, events, child.stderr, "err")
    watch(reap, events, child)
    why = follow(events, time.monotonic() + request["timeout"])
    if why != "ended":
        end(child, tag)
    if why != "lost":
        code = child.wait()
        wire.emit({"exit": 128 - code if code < 0 else code, "timed_out": why == "timeout"})
    sys.stdout.flush()
    # Not sys.exit: a thread may still sit in a read that nothing will end.
    os._exit(0)


def follow(events, deadline):
    """Wait for the end: "ended" by itself with its output read, "timeout", or "lost" (no controller)."""
    streams, exited = 2, False
    while streams or not exited:
        try:
            what = events.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return "ended" if exited else "timeout"
        if what == "lost":
            return "lost"
        if what == "closed":
            streams -= 1
        else:
            exited = True
            deadline = min(deadline, time.monotonic() + DRAIN)
    return "ended"


def end(child, tag):
    """End the command's process group and all that bears the tag: TERM, a grace, KILL until none is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    signal_all(tag, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while processes.run_processes(tag) and time.monotonic() < deadline:
        time.sleep(0.05)
    while processes.run_processes(tag):
        signal_all(tag, signal.SIGKILL)
        time.sleep(0.02)


def signal_all(tag, number):
    for pid in processes.run_processes(tag):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def watch(work, events, *arguments):
    thread = threading.Thread(target=work, args=(events, *arguments))
    thread.daemon = True
    thread.start()


def lease_end(events):
    for _ in wire.messages():
        pass
    events.put("lost")


def reap(events, child):
    child.wait()
    events.put("exited")


def forward(events, pipe, name):
    try:
        for data in iter(lambda: os.read(pipe.fileno(), 65536), b""):
            wire.emit({"stream": name, "text": data.decode("utf-8", "surrogateescape")})
    except OSError:
        events.put("lost")
    events.put("closed")

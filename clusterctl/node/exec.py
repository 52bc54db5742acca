"""Runs one command on this node for `clusterctl exec`; nothing of it outlives the controller.

The request is ``{"argv": [...], "timeout": seconds}``. Standard input is the lease: at its end, and at the
timeout, everything the command has started is ended. What a command leaves in the background when it ends by
itself stays, as it would after `ssh host command`. What has changed its user, or is stuck in the kernel,
cannot be ended: it is counted, and nobody waits for it.
"""

import base64
import contextlib
import ctypes
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
KILL_TIMEOUT = 5.0
# Beyond GRACE and KILL_TIMEOUT; to look at a process that is stuck in the kernel may itself be stuck.
LOOK_TIMEOUT = 3.0
PR_SET_CHILD_SUBREAPER = 36


def main(request, files):
    tag = "exec-" + uuid.uuid4().hex
    events: queue.Queue[str] = queue.Queue()
    watch(lease_end, events)
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: events.put("lost"))
    # What the command has started stays below this process, also when it hides its environment.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
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
        tell_output("err", os.fsencode("%s: %s\n" % (request["argv"][0], reason)))
        tell_end(126 if isinstance(error, PermissionError) else 127)
        return 0
    watch(forward, events, child.stdout, "out")
    watch(forward, events, child.stderr, "err")
    watch(reap, events, child)
    why = follow(events, time.monotonic() + request["timeout"])
    if why == "ended":
        code = child.wait()
        tell_end(128 - code if code < 0 else code)
    else:
        left = end_in_time(child, tag)
        if why == "timeout":
            tell_end(128 + signal.SIGKILL, timed_out=True, left=left)
    sys.stdout.flush()
    # Not sys.exit: a thread may still sit in a read that nothing will end.
    os._exit(0)


def tell_output(stream, data):
    wire.emit({"is": "output", "stream": stream, "data": base64.b64encode(data).decode("ascii")})


def tell_end(code, timed_out=False, left=0):
    wire.emit({"is": "command-ended", "code": code, "timed_out": timed_out, "left": left})


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


def end_in_time(child, tag):
    """`end`, but None when it does not come back: to read about a process that is stuck may be stuck, too."""
    counted: queue.Queue[int] = queue.Queue()
    watch(lambda answers: answers.put(end(child, tag)), counted)
    try:
        return counted.get(timeout=GRACE + KILL_TIMEOUT + LOOK_TIMEOUT)
    except queue.Empty:
        return None


def end(child, tag):
    """End the command's process group and all that bears the tag: TERM, a grace, KILL.

    Returns how many processes are left: those of another user, and those that the kernel does not let go.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGTERM)
    signal_all(tag, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while here(tag) and time.monotonic() < deadline:
        time.sleep(0.05)
    deadline = time.monotonic() + KILL_TIMEOUT
    while here(tag) and time.monotonic() < deadline:
        signal_all(tag, signal.SIGKILL)
        time.sleep(0.02)
    return len(here(tag))


def here(tag):
    return processes.run_processes(tag, below=os.getpid())


def signal_all(tag, number):
    for pid in here(tag):
        with contextlib.suppress(ProcessLookupError, PermissionError):
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
            tell_output(name, data)
    except OSError:
        events.put("lost")
    events.put("closed")

"""How a bundle answers the controller: one JSON object a line on stdout, behind a marker.

Login shells print banners; the marker lets the reader tell them apart. Input is read from
`sys.stdin.buffer` only, because the bundle itself came through that buffer.
"""

import base64
import contextlib
import json
import os
import signal
import sys
import threading

MARK = "@@clusterctl1 "
_lock = threading.Lock()
_kept = b""


def emit(message, *, wait=False):
    """Write one JSON object as one line, atomically between threads. One that may ``wait`` goes along with
    the next, whoever emits that.

    Half characters, which is what Python makes of bytes that are no text, become question marks: nobody else
    could read them.
    """
    line = (MARK + json.dumps(message, ensure_ascii=False) + "\n").encode("utf-8", "replace")
    _write(b"" if wait else line, kept=line if wait else b"")


def emit_bytes(message, data):
    """`emit`, with ``data`` as the message's last field, in base64. Much of it: nothing looks at every byte
    but who must."""
    head = (MARK + json.dumps(message)[:-1] + ', "data": "').encode()
    _write(b"".join((head, base64.b64encode(data), b'"}\n')))


def _write(line, kept=b""):
    global _kept
    with _lock:
        before, _kept = _kept, kept
        sys.stdout.buffer.write(before + line if before else line)
        sys.stdout.buffer.flush()


def emit_last(message):
    """Like `emit`; from then on no other thread gets a word in, not even half a one."""
    emit(message)
    _lock.acquire()


TEXT_LIMIT = 65000


def sendable(value):
    """The same value with texts a reader of JSON takes: no half of a surrogate pair, none without end."""
    if isinstance(value, str):
        return value[:TEXT_LIMIT].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {key: sendable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [sendable(each) for each in value]
    return value


def messages():
    """Yield each JSON line of stdin until its end."""
    for line in iter(sys.stdin.buffer.readline, b""):
        if line.strip():
            yield json.loads(line.decode("utf-8"))


def leave_nothing_behind(timeout):
    """Make this process and its children end by themselves, whatever becomes of the controller.

    The process gets its own group; after ``timeout`` seconds the whole group is killed.
    """
    with contextlib.suppress(PermissionError):  # a session leader is a group of its own already
        os.setpgid(0, 0)

    def end(*_):
        os.killpg(os.getpgrp(), signal.SIGKILL)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    return end

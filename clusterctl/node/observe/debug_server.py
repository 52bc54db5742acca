"""Asks the debug server in a rank: HTTP over a unix socket, one question a connection, each with its end."""

from __future__ import annotations

import socket
import time

_LONGEST = 8 << 20


class NoAnswer(Exception):
    """Says in words why there is none."""


def ask(path, handler, timeout):
    """What it answers, as bytes. Raises NoAnswer."""
    deadline = time.monotonic() + timeout
    request = "POST /handler/%s HTTP/1.1\r\nHost: rank\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(timeout)
            link.connect(path)
            link.sendall((request % handler).encode())
            answer = _receive(link, deadline)
    except socket.timeout as error:
        raise NoAnswer("its debug server did not answer within %g s" % timeout) from error
    except OSError as error:
        raise NoAnswer("its debug server cannot be asked: %s" % (error.strerror or error)) from error
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] != [b"200"]:
        raise NoAnswer("its debug server does not know %s" % handler)
    return body


def _receive(link, deadline):
    found = b""
    while len(found) < _LONGEST:
        left = deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout
        link.settimeout(left)
        data = link.recv(1 << 16)
        if not data:
            return found
        found += data
    raise NoAnswer("its debug server says more than %d MiB" % (_LONGEST >> 20))

"""The byte stream under an SSH session: a TCP connection, or the two ends of a ProxyCommand."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time

from clusterctl.transport import failures
from clusterctl.transport.child import Child
from clusterctl.transport.endpoint import Endpoint
from clusterctl.transport.protocol import Failure

_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}


def connect_tcp(endpoint: Endpoint, timeout: float, deadline: float) -> socket.socket | Failure:
    """Connect within ``timeout`` seconds and before ``deadline`` (time.monotonic), trying every address."""
    addresses = _addresses(endpoint, deadline)
    if isinstance(addresses, Failure):
        return addresses
    began = time.monotonic()
    error: OSError = TimeoutError()
    for family, address in addresses:
        left = min(began + timeout, deadline) - time.monotonic()
        if left <= 0:
            break
        try:
            connection = socket.socket(family, socket.SOCK_STREAM)
        except OSError as problem:  # no descriptor left, or no IPv6 here
            error = problem
            continue
        try:
            connection.settimeout(left)
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as problem:
            connection.close()
            error = problem
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    return failures.unconnected(endpoint, error, time.monotonic() - began)


def start_proxy(endpoint: Endpoint) -> tuple[socket.socket, Child]:
    """Start the ProxyCommand as ssh does (`exec` by a shell), with a socket for its stdin and stdout."""
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {endpoint.proxy_command}"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return ours, Child(process)


def _addresses(endpoint: Endpoint, deadline: float) -> list[tuple[int, tuple[str, int]]] | Failure:
    """getaddrinfo knows no timeout, so a thread that may be left behind asks, but for a plain address."""
    if endpoint.address_family != "inet6":
        with contextlib.suppress(OSError):
            socket.inet_pton(socket.AF_INET, endpoint.hostname)
            return [(socket.AF_INET, (endpoint.hostname, endpoint.port))]
    found: list[tuple[int, tuple[str, int]]] = []

    def ask() -> None:
        family = _FAMILIES.get(endpoint.address_family, socket.AF_UNSPEC)
        try:
            answers = socket.getaddrinfo(endpoint.hostname, endpoint.port, family, socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        found.extend((answer[0], answer[4]) for answer in answers)  # type: ignore[misc]

    asking = threading.Thread(target=ask, name="getaddrinfo", daemon=True)
    asking.start()
    asking.join(max(0.0, deadline - time.monotonic()))
    if asking.is_alive():
        return failures.late(endpoint, f"the look-up of '{endpoint.hostname}'")
    return found or failures.unresolved(endpoint)

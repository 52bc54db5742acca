"""A port on which rank 0 could hold the store: outside the range from which the OS takes ports for others.

The port offered is reserved by this session, also after it has become the relay of a run: two launches at
once on the same host get two ports. The reservation is a name in the host's network, not a file: it ends with
the session, whatever ends it, and leaves nothing.
"""

import os
import socket

from ..shared.files import listing, owner_of, read, user_name
from ..shared.locks import host_mark

LISTENING = "0A"
_reserved: "dict[int, socket.socket]" = {}


def find(order, port_range):
    """(port, "") for a free port, (port or None, why) where the user's own, or every one tried, is held."""
    if order["port"]:
        return order["port"], problem(order["port"])
    low, high = port_range
    tried = list(range(order["preferred"], order["preferred"] + order["tries"]))
    tried = [port for port in tried if not low <= port <= high] or tried
    for port in tried:
        # In this order: a port of another launch, which is about to listen on it, is not touched.
        if reserve(port):
            if not problem(port):
                return port, ""
            _reserved.pop(port).close()
    for port in tried:
        if not problem(port):  # somebody has taken all the names: no reason to offer none
            return port, ""
    return None, "every port from %d to %d is held" % (tried[0], tried[-1])


def reserve(port):
    """Whether no other session on this host has been offered the port; from now on it is ours."""
    if port in _reserved:
        return True
    name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        name.bind("\0clusterctl-%s-port-%d" % (host_mark(), port))  # abstract: in no file system
    except OSError:
        name.close()
        return False
    os.set_inheritable(name.fileno(), True)  # this process executes another program and stays the session
    _reserved[port] = name
    return True


def problem(port):
    """Why nothing can listen on ``port`` on all addresses, as torch's store does; "" where it can."""
    try:
        with listener("", port):
            return ""
    except OSError as error:
        return "port %d %s" % (port, holder(port) or "cannot be taken: %s" % error.strerror)


def listener(address, port):
    """A listening socket. SO_REUSEADDR as torch sets it: what lingers of old connections is no holder."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen(2048)
    except OSError:
        made.close()
        raise
    return made


def holder(port):
    """``is held by pid 7 (alice): python train.py``, as far as this user may see; "" where nobody listens."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in read(table).splitlines()[1:]:
            row = line.split()
            if row[3] == LISTENING and int(row[1].rpartition(":")[2], 16) == port:
                pid = _pid_of_socket(row[9])
                if pid is None:
                    return "is held by a process of user %s" % user_name(int(row[7]))
                user, command = owner_of(pid)
                return "is held by pid %d (%s): %s" % (pid, user, command[:120])
    return ""


def _pid_of_socket(inode):
    wanted = "socket:[%s]" % inode
    for pid in listing("/proc"):
        if pid.isdigit():
            for descriptor in listing("/proc/%s/fd" % pid):
                try:
                    if os.readlink("/proc/%s/fd/%s" % (pid, descriptor)) == wanted:
                        return int(pid)
                except OSError:
                    continue
    return None

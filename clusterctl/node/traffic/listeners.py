"""Listens for the other hosts, and dials them: the proof that training traffic will pass.

Training libraries listen on ports that the OS chooses, so that is what is tried, with both ends and the
middle of the range beside it. Listeners bind to the addresses they are given, serve only peers that know the
token, and end with this process.
"""

import errno
import selectors
import socket
import threading
import time

from . import attempt, dialer, master_port

IDLE_TIMEOUT = 300.0
FULL_PAUSE = 0.1
NEARBY = 16


class Reach:
    """The traffic part of an examination. ``order`` says where to listen, and carries its token."""

    def __init__(self, order):
        self.order = order
        self.token = bytes.fromhex(order["token"])
        self.selector = selectors.DefaultSelector()
        self._serving = None
        self._waker, self._wakeup = socket.socketpair()

    def listen(self):
        """Open all listeners and serve them from a thread; tells the ports, and the master port if asked."""
        answer: dict[str, object] = {}
        found = []
        ports = self.order["port_range"]
        if self.order["master"]:
            port, problem = master_port.find(self.order["master"], ports)
            answer.update(master_port=port, master_error=problem)
        for address in self.order["addresses"]:
            for _ in range(self.order["ephemeral"]):
                found.append(("ephemeral", master_port.listener(address, 0)))
            for kind, start, step in (
                ("low", ports[0], 1),
                ("middle", sum(ports) // 2, 1),
                ("high", ports[1], -1),
            ):
                made = _near(address, start, step)
                if made:
                    found.append((kind, made))
            if answer.get("master_port") and not answer["master_error"]:
                found.append(("master", master_port.listener(address, answer["master_port"])))
        for _, made in found:
            made.setblocking(False)
            self.selector.register(made, selectors.EVENT_READ, None)
        if found:
            self.selector.register(self._wakeup, selectors.EVENT_READ, None)
            self._serving = threading.Thread(target=self._serve, daemon=True)
            self._serving.start()
        answer["listeners"] = [
            [made.getsockname()[0].partition("%")[0], made.getsockname()[1], kind] for kind, made in found
        ]
        return answer

    def dial(self, order):
        """Visit all peers in the order; tells one row for each dial that was made in time."""
        return dialer.dial_all(order, self.token)

    def close(self):
        """Give all ports back, the master port for one. Returns when that is done."""
        if self._serving:
            self._waker.send(b"1")
            self._serving.join()
            self._serving = None

    def _serve(self):
        while True:
            for key, events in self.selector.select(1.0):
                if key.fileobj is self._wakeup:
                    for each in list(self.selector.get_map().values()):
                        self._drop(each.fileobj)
                    return
                if key.data is None:
                    self._accept(key.fileobj)
                elif not key.data.move(events):
                    self._drop(key.fileobj)
                else:
                    self.selector.modify(key.fileobj, key.data.interest(), key.data)
            for key in list(self.selector.get_map().values()):
                if key.data is not None and time.monotonic() - key.data.moved > IDLE_TIMEOUT:
                    self._drop(key.fileobj)

    def _accept(self, listening):
        try:
            made, peer = listening.accept()
        except OSError as error:  # the peer is gone already, or this process is out of descriptors for now
            if error.errno == errno.EMFILE:
                time.sleep(FULL_PAUSE)
            return
        made.setblocking(False)
        self.selector.register(
            made, selectors.EVENT_READ, Guest(made, peer[0], self.token, self.order["rank"])
        )

    def _drop(self, made):
        self.selector.unregister(made)
        made.close()


def _near(address, start, step):
    """A listener on the first free port from ``start`` on, None where all near it are taken or forbidden."""
    for port in range(start, start + NEARBY * step, step):
        try:
            return master_port.listener(address, port)
        except (OSError, OverflowError):
            continue
    return None


class Guest:
    """One accepted connection: hello in, reply out with who we are; whatever comes after that is read."""

    def __init__(self, made, peer, token, rank):
        self.socket = made
        self.peer = peer.partition("%")[0]
        self.token = token
        self.rank = rank
        self.head = b""
        self.out = b""
        self.moved = time.monotonic()

    def interest(self):
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.out else 0)

    def move(self, events):
        """Read and write what can be; False when the connection is to be dropped."""
        self.moved = time.monotonic()
        try:
            if events & selectors.EVENT_READ and not self._read(self.socket.recv(1 << 18)):
                return False
            if self.out:
                self.out = self.out[self.socket.send(self.out) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def _read(self, data):
        if not data:
            return False
        if len(self.head) < attempt.HELLO.size:
            self.head = (self.head + data)[: attempt.HELLO.size]
            if len(self.head) == attempt.HELLO.size:
                magic, token, nonce = attempt.HELLO.unpack(self.head)
                if magic != attempt.MAGIC or token != self.token:
                    return False
                self.out = attempt.REPLY.pack(attempt.MAGIC, nonce, self.rank, self.peer.encode("ascii"))
        return True

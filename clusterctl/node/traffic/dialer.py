"""Dials many peers at once from one thread and says exactly how each attempt ended."""

import array
import collections
import errno
import fcntl
import os
import selectors
import socket
import struct
import termios
import time

from ..shared import netlink

MAGIC = b"cctl1"
HELLO = struct.Struct("!5s16s8sB")
REPLY = struct.Struct("!5s8s46s")
BULK = 1 << 20
LAST = b"."
AT_ONCE = 128
TICK = 0.1
RESULTS = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.ENETUNREACH: "no-route",
    errno.ETIMEDOUT: "timeout",
}
_ZEROS = bytes(1 << 16)


def dial_all(order, token):
    """Rows [position, result, seconds, seen, device, detail]; dials not begun in time are left out."""
    deadline = time.monotonic() + order["timeout"]
    waiting = collections.deque(
        (position, address, port, bulk, 1) for position, (address, port, bulk) in enumerate(order["dials"])
    )
    devices: dict[str, str] = {}
    rows: list[list[object]] = []
    looked = 0.0
    with selectors.DefaultSelector() as selector:
        while (waiting or selector.get_map()) and time.monotonic() < deadline:
            while waiting and len(selector.get_map()) < AT_ONCE:
                attempt = Attempt(waiting.popleft(), token, order["dial_timeout"])
                if attempt.result:
                    _settle(attempt, waiting, rows, devices, order["tries"])
                else:
                    selector.register(attempt.socket, attempt.interest(), attempt)
            for key, events in selector.select(TICK):
                key.data.move(events)
                if not key.data.result and key.events != key.data.interest():
                    selector.modify(key.fileobj, key.data.interest(), key.data)
            look = time.monotonic() - looked > TICK
            if look:
                looked = time.monotonic()
            for key in list(selector.get_map().values()):
                if key.data.result or (look and key.data.is_late()):
                    selector.unregister(key.fileobj)
                    key.data.socket.close()
                    _settle(key.data, waiting, rows, devices, order["tries"])
        for key in list(selector.get_map().values()):
            key.data.socket.close()
    return rows


def _settle(attempt, waiting, rows, devices, tries):
    position, address, port, bulk, number = attempt.what
    if attempt.result in ("timeout", "stall", "error") and number < tries:
        waiting.append((position, address, port, bulk, number + 1))
        return
    if address not in devices:
        devices[address] = _device(address)
    rows.append(
        [position, attempt.result, round(attempt.seconds, 5), attempt.seen, devices[address], attempt.detail]
    )


def _device(address):
    try:
        return socket.if_indextoname(netlink.egress(address))
    except OSError:
        return ""


class Attempt:
    """One connection: connect, say hello, read who they think we are, and for bulk 1 MB each way.

    ``result`` is empty while it goes on.
    """

    def __init__(self, what, token, timeout):
        _, address, port, self.bulk, _ = self.what = what
        self.timeout = timeout
        self.result = self.seen = self.detail = ""
        self.began = self.moved = time.monotonic()
        self.seconds = 0.0
        self.nonce = os.urandom(8)
        self.hello = HELLO.pack(MAGIC, token, self.nonce, self.bulk)
        self.connected = False
        self.sent = self.received = self.progress = 0
        self.head = b""
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.socket.setblocking(False)
        self._check(self.socket.connect_ex((address, port)))

    def _check(self, code):
        if code not in (0, errno.EINPROGRESS):
            self._end(RESULTS.get(code, "error"), os.strerror(code))
            self.socket.close()

    def _end(self, result, detail=""):
        self.result, self.detail = result, detail
        self.seconds = self.seconds or time.monotonic() - self.began

    @property
    def to_send(self):
        return len(self.hello) + (BULK if self.bulk else 0)

    @property
    def to_receive(self):
        return REPLY.size + (BULK + len(LAST) if self.bulk else 0)

    @property
    def may_send(self):
        """A peer that is not ours gets the hello only, never a megabyte."""
        return self.to_send if len(self.head) == REPLY.size else len(self.hello)

    def interest(self):
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.sent < self.may_send else 0)

    def move(self, events):
        """Do what can be done now; ``result`` tells whether that was the end of it."""
        try:
            if not self.connected:
                code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code))
                self.connected = True
                self.moved = time.monotonic()
            if events & selectors.EVENT_WRITE and self.sent < self.may_send:
                self._write()
            if events & selectors.EVENT_READ:
                self._read()
        except BlockingIOError:
            return
        except OSError as error:
            if self.connected:
                self._end("error", "%s after it was connected" % error.strerror)
            else:
                self._end(RESULTS.get(error.errno or 0, "error"), error.strerror)

    def _write(self):
        rest = self.hello[self.sent :] or _ZEROS[: self.to_send - self.sent]
        self.sent += self.socket.send(rest)

    def _read(self):
        data = self.socket.recv(1 << 16)
        if not data:
            self._end("foreign" if self.received < REPLY.size else "error", "it hung up")
            return
        self.received += len(data)
        if len(self.head) < REPLY.size:
            self.head = (self.head + data)[: REPLY.size]
            if len(self.head) == REPLY.size:
                magic, nonce, seen = REPLY.unpack(self.head)
                if magic != MAGIC or nonce != self.nonce:
                    self._end("foreign", "another service answered")
                    return
                self.seen = seen.rstrip(b"\0").decode("ascii", "replace")
                self.seconds = time.monotonic() - self.began
        if self.received >= self.to_receive:
            self._end("ok")

    def is_late(self):
        """Ends an attempt that made no progress for the timeout; what the peer acknowledged is progress."""
        now = time.monotonic()
        if self.connected:
            unsent = array.array("i", [0])
            fcntl.ioctl(self.socket, termios.TIOCOUTQ, unsent)
            progress = self.sent - unsent[0] + self.received
            if progress > self.progress:
                self.progress, self.moved = progress, now
        if now - self.moved < self.timeout:
            return False
        if self.seen:
            self._end("stall", "small messages pass, 1 MB does not")
        else:
            self._end("timeout", "connected, but nothing came back" if self.connected else "")
        return True

"""One connection to a peer, judged by what the kernels did: never by how soon a process there answered."""

import errno
import os
import selectors
import socket
import struct
import time

from . import kernel

MAGIC = b"cctl2"
HELLO = struct.Struct("!5s16s8s")
REPLY = struct.Struct("!5s8sI46s")
BULK = 1 << 20
BULK_PROOF = 1 << 15
"""So much of it acknowledged proves that full-size packets pass, however slowly the rest follows."""
REQUESTS = 2
"""So often at least the kernel has asked again before "no answer" is believed."""
RESENDS = 3
UNANSWERED, SILENT = 0.05, 0.3
"""Seconds without news, before and after the connection, from which on others may begin meanwhile."""
RESULTS = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.ENETUNREACH: "no-route",
    errno.EINVAL: "no-route",  # a blackhole route
    errno.EACCES: "no-route",  # a prohibit route
}
_ZEROS = bytes(1 << 16)


class Attempt:
    """Connect, say hello, hear who answers and whom they think we are; with ``bulk`` send 1 MB after that.

    The first full-size packet of it goes alone. Virtual cards pass several in one, whatever the network on
    the way takes, so that much of a megabyte can get through where no packet of its size does.

    With ``packets`` it sends so many small ones instead, one now and then: more than any link can carry is
    never sent, so what is lost is lost by a fault.

    ``result`` is empty while it goes on: ok, refused, unreachable, prohibited, no-host, no-route, timeout,
    stall, foreign, connected, unsettled or error. See `facts.model.Dial`.
    """

    def __init__(self, visit, position, address, port, bulk, token, timeout, greeting, packets):
        self.visit = visit
        self.position = position
        self.address = address
        self.bulk = bulk
        self.timeout = timeout
        self.greeting = greeting
        self.packets = packets
        self.result = self.seen = self.detail = self.rejected_by = ""
        self.rank = self.flow = None
        self.seconds = 0.0
        self.began = self.moved = self.judged = time.monotonic()
        self.nonce = os.urandom(8)
        self.hello = HELLO.pack(MAGIC, token, self.nonce)
        self.connected = self.greeted = False
        self.sent = self.acknowledged = 0
        self.more = 0
        """Bytes after the hello that may be sent by now."""
        self.head = b""
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.socket.setblocking(False)
        kernel.keep_icmp(self.socket, True)
        code = self.socket.connect_ex((address, port))
        if code not in (0, errno.EINPROGRESS):
            self._failed_to_connect(code)

    @property
    def to_send(self):
        """A peer that is not ours gets the hello only, never a megabyte."""
        return len(self.hello) + self.more

    @property
    def is_paced(self):
        """Whether its next packet waits for its time."""
        return self.packets > 0 and self.greeted and self.sent < self.to_send

    def interest(self):
        wants = not self.connected or (self.sent < self.to_send and not self.is_paced)
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if wants else 0)

    @property
    def is_sending(self):
        """Whether its end is to be found by `judge`: no event tells what the other kernel acknowledged."""
        return self.greeted and self.sent >= self.to_send

    def is_waiting(self, now):
        """Whether there is nothing to do for it but to wait."""
        return now - self.moved > (SILENT if self.connected else UNANSWERED)

    def move(self, events):
        """Do what can be done now."""
        try:
            if not self.connected:
                code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                icmp = kernel.icmp_error(self.socket)
                if code or icmp:
                    self._failed_to_connect(code, icmp)
                    return
                if kernel.tcp_info(self.socket)[0] == kernel.SYN_SENT:
                    return
                self._established()
                if self.result:
                    return
            if events & selectors.EVENT_WRITE and self.sent < self.to_send:
                self._write()
            if events & selectors.EVENT_READ:
                self._read()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.ETIMEDOUT:
                self._unacknowledged()
            else:
                self._end("error", "%s after it was connected" % error.strerror)

    def judge(self, now):
        """End what the kernel knows to be over, or to be in vain."""
        self.judged = now
        if not self.connected:
            self._judge_request(now)
            return
        if self.is_paced:
            self._send_next()
            return
        _, resends, probes, _ = kernel.tcp_info(self.socket)
        acknowledged = self.sent - kernel.unacknowledged(self.socket)
        if acknowledged > self.acknowledged:
            self.acknowledged, self.moved = acknowledged, now
        # A closed window has taken something before; nothing at all is lost on the way, or here.
        stuck = resends >= RESENDS or (probes >= RESENDS and acknowledged <= len(self.hello))
        if self.is_sending and acknowledged >= self.to_send:
            if self.bulk and not self.packets and self.more < BULK:
                self.more = BULK
            else:
                self._end("ok")
        elif now - self.moved >= self.timeout and acknowledged < self.sent and stuck:
            self._unacknowledged()
        elif self.greeted and now - self.began >= self.timeout and acknowledged > BULK_PROOF:
            self._end("ok")

    def _unacknowledged(self):
        if self.greeted:
            self._end("stall", "small messages pass, 1 MB does not")
        else:
            self._end("timeout", "connected, then nothing was acknowledged")

    def give_up(self):
        """No more time. A connection that the other kernel accepted is one, whatever its process does."""
        if self.greeted and self.acknowledged > BULK_PROOF:
            self._end("ok")
        elif self.greeted:
            self._end("connected", "its process has not taken 1 MB")
        elif self.connected:
            self._end("connected", "its process has not answered")
        else:
            self._end("unsettled", "the time was over before it was decided")

    def _judge_request(self, now):
        if now - self.began < self.timeout:
            return
        _, requests, _, _ = kernel.tcp_info(self.socket)
        if requests < REQUESTS or kernel.has_news(self.socket):
            return
        if kernel.answers_arp(self.address) is False:
            self._end("no-host", "no answer to ARP")
        else:
            self._end("timeout", "%d requests to connect, no answer" % (requests + 1))

    def _established(self):
        self.connected = True
        self.moved = time.monotonic()
        kernel.keep_icmp(self.socket, False)
        self.seconds = kernel.tcp_info(self.socket)[3]
        if not self.greeting:
            self._end("ok")

    def _failed_to_connect(self, code, icmp=None):
        if icmp:
            code, forbidden, self.rejected_by = code or icmp[0], icmp[1], icmp[2]
            # Whoever says that itself cannot be reached has a firewall.
            if forbidden or self.rejected_by == self.address:
                self._end("prohibited", os.strerror(code))
                return
        result = RESULTS.get(code, "error")
        if result == "unreachable":
            answers_arp = kernel.answers_arp(self.address)
            if icmp and self.rejected_by == self.socket.getsockname()[0]:
                result = "prohibited" if answers_arp else "no-host"
            elif answers_arp is False:
                result = "no-host"
        self._end(result, os.strerror(code))

    def _end(self, result, detail=""):
        self.result, self.detail = result, detail

    def _write(self):
        rest = self.hello[self.sent :] or _ZEROS[: self.to_send - self.sent]
        self.sent += self.socket.send(rest)
        self.moved = time.monotonic()

    def _send_next(self):
        try:
            self.sent += self.socket.send(b"\0")
            self.moved = time.monotonic()
        except BlockingIOError:
            return
        except OSError as error:
            self._end("error", "%s after it was connected" % error.strerror)

    def _read(self):
        data = self.socket.recv(1 << 16)
        if not data:
            self._end("error" if self.greeted else "foreign", "it hung up")
            return
        if self.greeted:
            return
        self.head = (self.head + data)[: REPLY.size]
        if len(self.head) < REPLY.size:
            return
        magic, nonce, rank, seen = REPLY.unpack(self.head)
        if magic != MAGIC or nonce != self.nonce:
            self._end("foreign", "another service answered")
            return
        self.greeted, self.rank = True, rank
        self.moved = time.monotonic()
        self.seen = seen.rstrip(b"\0").decode("ascii", "replace")
        if self.packets:
            self.more = self.packets
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        elif self.bulk:
            self.more = kernel.packet_size(self.socket)
        else:
            self._end("ok")

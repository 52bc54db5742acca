"""Visits peers one after another, from one thread: what waits for an answer keeps nobody waiting.

A visit begins with one dial to each address of the peer, the scout. The other ports follow where the scout
got through, and on all addresses where none did. The next visit begins when this one only waits; each host
begins with the host after itself, so that one connection comes in while one goes out.
"""

import collections
import selectors
import socket
import time

from ..shared import netlink
from . import kernel
from .attempt import Attempt

AT_ONCE = 200
TICK = 0.1
SHORT_TICK = 0.01
HOPEFUL = 1.0
"""Seconds for which the other ports wait for an unanswered scout."""


def dial_all(order, token):
    """An answer with ``results``, rows as in `messages.examination.DialResult`; dials not begun are left out.

    ``neighbours_refused`` counts how often the neighbour table had no room meanwhile, ``kept_back`` how often
    this host itself let a packet not out.
    """
    fulls, failed = kernel.neighbour_table_fulls(), kernel.retransmissions_failed()
    rows = _Dialer(order, token).run()
    return {
        "results": rows,
        "neighbours_refused": _more(fulls, kernel.neighbour_table_fulls()),
        "kept_back": _more(failed, kernel.retransmissions_failed()),
    }


def _more(old, new):
    return None if old is None or new is None else max(0, new - old)


class _Dialer:
    def __init__(self, order, token):
        self._token = token
        self._timeout = order["dial_timeout"]
        self._reply_timeout = order["reply_timeout"]
        self._greeting = order["greeting"]
        self._packets = order["packets"]
        self._deadline = time.monotonic() + order["timeout"]
        self._visits = collections.deque(_visits(order["peers"]))
        self._visit = None
        self._waiting: "collections.deque[tuple[_Visit, tuple[int, str, int, bool]]]" = collections.deque()
        self._selector = selectors.DefaultSelector()
        self._devices = {}
        self._rows = []
        self._heard = time.monotonic()

    def run(self):
        with self._selector:
            while self._go_on():
                for key, events in self._selector.select(self._tick()):
                    self._heard = time.monotonic()
                    key.data.move(events)
                self._look()
            for attempt in self._attempts():
                attempt.give_up()
                self._tell(attempt)
        return self._rows

    def _attempts(self):
        return [key.data for key in list(self._selector.get_map().values())]

    def _go_on(self):
        """Begin what may begin now; False when all is done, or nothing more is to be expected."""
        now = time.monotonic()
        if now > self._deadline:
            return False
        self._begin()
        while not self._waiting and self._visits and len(self._attempts()) < AT_ONCE and self._is_idle(now):
            self._visit = self._visits.popleft()
            self._waiting.extend(self._visit.scouts())
            self._begin()
        attempts = self._attempts()
        if not attempts:
            return bool(self._waiting or self._visits)
        heard = max(self._heard, *(attempt.moved for attempt in attempts))
        late = now - heard > self._reply_timeout
        return not (late and all(attempt.connected for attempt in attempts))

    def _is_idle(self, now):
        return all(attempt.is_waiting(now) for attempt in self._attempts())

    def _begin(self):
        while self._waiting and len(self._selector.get_map()) < AT_ONCE:
            visit, (position, address, port, bulk) = self._waiting.popleft()
            try:
                attempt = Attempt(
                    *(visit, position, address, port, bulk, self._token),
                    *(self._timeout, self._greeting, self._packets),
                )
            except OSError:  # no more descriptors: some come free when others end
                if not self._attempts():
                    raise
                self._waiting.appendleft((visit, (position, address, port, bulk)))
                return
            if attempt.result:
                self._tell(attempt)
                self._waiting.extend(visit.follow(attempt, time.monotonic()))
            else:
                self._selector.register(attempt.socket, attempt.interest(), attempt)

    def _tick(self):
        hurry = self._visits or any(each.is_sending or each.is_paced for each in self._attempts())
        return SHORT_TICK if hurry else TICK

    def _look(self):
        now = time.monotonic()
        for key in list(self._selector.get_map().values()):
            attempt = key.data
            prompt = attempt.is_sending or attempt.is_paced
            if not attempt.result and (prompt or now - attempt.judged > TICK):
                attempt.judge(now)
            if attempt.result:
                self._selector.unregister(key.fileobj)
                self._tell(attempt)
            elif key.events != attempt.interest():
                self._selector.modify(key.fileobj, attempt.interest(), attempt)
            self._waiting.extend(attempt.visit.follow(attempt, now))

    def _tell(self, attempt):
        if attempt.greeted:
            attempt.flow = kernel.flow(attempt.socket, 1 if attempt.packets else 0)
        attempt.socket.close()
        if attempt.address not in self._devices:
            self._devices[attempt.address] = _device(attempt.address)
        self._rows.append(
            [
                attempt.position,
                attempt.result,
                round(attempt.seconds, 6),
                attempt.seen,
                self._devices[attempt.address],
                attempt.detail,
                attempt.rejected_by,
                attempt.rank,
                attempt.flow,
            ]
        )


def _visits(peers):
    position = 0
    for ports in peers:
        by_address: "dict[str, list[tuple[int, str, int, bool]]]" = {}
        for address, port, bulk in ports:
            by_address.setdefault(address, []).append((position, address, port, bulk))
            position += 1
        yield _Visit(by_address)


class _Visit:
    """One peer: ``scouts`` are begun first, `follow` tells what the end of one allows."""

    def __init__(self, by_address):
        self._scouts = {address: dials[0] for address, dials in by_address.items()}
        self._others = {address: dials[1:] for address, dials in by_address.items()}
        self._in_vain = set()

    def scouts(self):
        return [(self, dial) for dial in self._scouts.values()]

    def follow(self, attempt, now):
        """Further dials that this attempt, by what has become of it, allows."""
        if attempt.connected:
            return [(self, dial) for dial in self._others.pop(attempt.address, ())]
        if attempt.result or now - attempt.began > HOPEFUL:
            self._in_vain.add(attempt.address)
            if self._in_vain == set(self._scouts):  # a firewall may open other ports than the scouts'
                found = [(self, dial) for dials in self._others.values() for dial in dials]
                self._others.clear()
                return found
        return []


def _device(address):
    try:
        return socket.if_indextoname(netlink.egress(address))
    except OSError:
        return ""

"""How fast TCP carries data from this host to another, and what held it up, by the kernel's word.

A receiver serves whoever knows its token and drops what comes; a sender fills several connections for a
while. What is counted is what the other kernel acknowledged.
"""

import os
import socket
import struct
import threading
import time

from ..traffic.master_port import listener

CHUNK = 1 << 18
WARM_UP = 0.25
SILENCE = 60.0
_ACKED, _TIMES, _TCP_INFO = 120, 168, 192


def receive(order):
    """Take what comes from now on, until this process ends; tells the port."""
    listening = listener(order["address"], 0)
    token = bytes.fromhex(order["token"])
    threading.Thread(target=_serve, args=(listening, token), daemon=True).start()
    return {"port": listening.getsockname()[1]}


def _serve(listening, token):
    while True:
        made, _ = listening.accept()
        threading.Thread(target=_drop, args=(made, token), daemon=True).start()


def _drop(made, token):
    with made:
        made.settimeout(SILENCE)
        try:
            if made.recv(len(token), socket.MSG_WAITALL) != token:
                return
            data = bytearray(CHUNK)
            while made.recv_into(data, CHUNK, socket.MSG_TRUNC):  # the kernel copies nothing
                continue
        except OSError:  # the sender is gone, or fell silent
            return


def send(order):
    """What ``streams`` connections carried within ``seconds``, and the shares of that time in which they had
    something to send, waited for the receiver, or for room in their own buffers."""
    token, connections = bytes.fromhex(order["token"]), []
    try:
        for _ in range(order["streams"]):
            made = socket.create_connection((order["address"], order["port"]), order["timeout"])
            connections.append(made)
            made.sendall(token)
        return _measure(connections, order["seconds"])
    except OSError as error:
        return {"error": error.strerror or str(error)}
    finally:
        for made in connections:
            made.close()


def _measure(connections, seconds):
    end = threading.Event()
    threads = [threading.Thread(target=_fill, args=(made, end), daemon=True) for made in connections]
    for thread in threads:
        thread.start()
    time.sleep(WARM_UP)
    before, began = _look(connections), time.monotonic()
    time.sleep(seconds)
    after, taken = _look(connections), time.monotonic() - began
    end.set()
    for made in connections:
        made.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    acked, busy, receiver, buffer, cpu, idle, total = (now - then for now, then in zip(after, before))  # noqa: B905
    share = taken * len(connections)
    return {
        "rate": acked * 8 / taken,
        "busy": min(1.0, busy / share),
        "receiver": receiver / share,
        "buffer": buffer / share,
        "cpu": cpu / taken,
        "idle": idle / max(1, total),
    }


def _fill(made, end):
    data = memoryview(bytes(CHUNK))
    while not end.is_set():
        try:
            made.send(data)
        except OSError:
            return


def _look(connections):
    """Bytes acknowledged; seconds busy, limited by the receiver, by buffers; CPU of this process; the
    machine's idle and whole time."""
    sums = [0, 0.0, 0.0, 0.0]
    for made in connections:
        info = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO)
        if len(info) < _TCP_INFO:
            raise OSError("this kernel (before 4.10) does not say what limits a connection")
        sums[0] += struct.unpack_from("=Q", info, _ACKED)[0]
        for place, microseconds in enumerate(struct.unpack_from("=3Q", info, _TIMES), start=1):
            sums[place] += microseconds / 1e6
    with open("/proc/stat") as stream:
        ticks = [int(field) for field in stream.readline().split()[1:9]]
    used = os.times()
    return (*sums, used.user + used.system, ticks[3] + ticks[4], sum(ticks))

"""A rank without torch that fails as one with gloo: rank 0 holds a connection to each other rank, all step
together, and whoever finds a connection closed says so in gloo's words.

cheap.py STEPS BYTES WHO WHAT AT SLOW: print BYTES in each of STEPS steps; rank WHO does WHAT in step AT; exit
handlers take SLOW seconds. `save` and `map` get stuck in the kernel once /tmp/disk is frozen, `fill` takes
memory without end, `hide` starts a program that nothing ties to the run, `root` one that becomes root, for
SLOW seconds. What is printed also goes to /tmp/printed-RANK (printed-RANK.attempt-2 and so on), before it is
printed.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import time

from copied import copy_of
from stuck import lock_map, map_file, save, wait_for

steps, size, who, what, at, slow = sys.argv[1:]
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
copy = copy_of(rank)


def say(text):
    line = ("%s\n" % text).encode()
    copy.write(line)
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def hide():
    """Start what has left its session and its parents, and knows of no run."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(3):
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
            os.execve("/bin/sleep", ["sleep", "3600"], {})
        os._exit(0)
    os.wait()


def heard(link, name):
    if not link.recv(1):
        raise RuntimeError("[pair.cc:553] Connection closed by peer [%s]:%d" % name)


address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))  # the stand-in does not listen there
peers = []
if rank == 0:
    server = socket.create_server(address)
    while len(peers) < world - 1:
        peers.append(server.accept()[0])
else:
    while not peers:
        try:
            peers.append(socket.create_connection(address))
        except OSError:
            time.sleep(0.05)
names = [peer.getpeername() for peer in peers]  # a connection that was reset has none any more
atexit.register(time.sleep, float(slow))
if rank == int(who) and what == "map":
    pages = map_file("/tmp/disk/mapped")
say("ready")
for step in range(int(steps)):
    if rank == int(who) and step == int(at):
        if what == "raise":
            {}["nothing"]
        if what == "exit":
            sys.exit(7)
        if what == "root":
            become = "import os, time; os.setresuid(0, 0, 0); time.sleep(%s)" % slow
            helper = subprocess.Popen(["/tmp/becomes-root", "-c", become])
            if float(slow) < 60:
                helper.wait()
        elif what == "hide":
            hide()
        elif what == "save":
            wait_for("/tmp/frozen")
            save("/tmp/disk/saved")
        elif what == "fill":
            taken = []
            while True:
                taken.append(b"x" * 2**20)
        elif what == "map":
            wait_for("/tmp/frozen")
            lock_map(*pages)
        else:
            os.kill(os.getpid(), getattr(signal, what))
    time.sleep(0.05)
    say("%d %s" % (step, os.urandom(int(size) // 2).hex()))  # which cannot travel packed
    for peer, name in zip(peers, names, strict=True):
        if rank:
            peer.send(b"s")
        heard(peer, name)
    if rank == 0:
        for peer in peers:
            peer.send(b"s")
say("done")
os._exit(0)

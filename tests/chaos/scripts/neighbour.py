"""Somebody's other job on a host: it looks like a rank, and nobody may touch it.

neighbour.py NAME: works in its home with shared memory and a port of its own; signals that it gets go to
/tmp/neighbour-NAME, of which the first line is written once all is there.
"""

import os
import signal
import socket
import sys
import time

os.chdir(os.environ["HOME"])
report = os.open("/tmp/neighbour-" + sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, lambda number, _: os.write(report, b"%d\n" % number))
memory = open("/dev/shm/torch_neighbour_" + sys.argv[1], "wb+")
server = socket.create_server(("127.0.0.1", 0))
os.write(report, b"there\n")
while True:
    time.sleep(3600)

"""Ways to wait for a disk that is frozen, which no signal ends.

Run as a script, it is somebody else's process that is stuck so: stuck.py PATH FLAG waits until FLAG exists.
"""

import ctypes
import os
import sys
import threading
import time

PAGES = 1 << 20


def save(path):
    """Returns when the disk is thawed."""
    with open(path, "wb") as stream:
        stream.write(b"x" * 4096)


def map_file(path):
    """The library of C, and the address of pages of a file that nobody has written to yet."""
    library = ctypes.CDLL(None)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    with open(path, "w+b") as stream:
        stream.truncate(PAGES)
        return library, library.mmap(None, PAGES, 3, 1, stream.fileno(), 0)


def lock_map(library, address):
    """One thread writes to a page and waits for the disk. Another wants to unmap it and waits for the first,
    and meanwhile whoever reads this process's command line or environment waits for both."""
    threading.Thread(target=library.memset, args=(address, 1, 1), daemon=True).start()
    time.sleep(0.5)
    library.munmap(address, PAGES)


def wait_for(flag):
    while not os.path.exists(flag):
        time.sleep(0.05)


if __name__ == "__main__":
    pages = map_file(sys.argv[1])
    wait_for(sys.argv[2])
    lock_map(*pages)

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

TRAIN = Path(__file__).resolve().parents[1] / "train"
# A mutex taken twice: like a collective with a lost rank, no signal gets the main thread out of it.
STUCK = """
import ctypes
from stopping import StopRequest
StopRequest().listen()
libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)
libc.pthread_mutex_init(mutex, None)
libc.pthread_mutex_lock(mutex)
print("stuck", flush=True)
libc.pthread_mutex_lock(mutex)
"""


def test_who_insists_ends_a_rank_that_waits_for_a_lost_one() -> None:
    rank = subprocess.Popen(
        [sys.executable, "-c", STUCK], cwd=TRAIN, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert rank.stdout is not None and rank.stdout.readline() == "stuck\n"
        for _ in range(600):
            rank.send_signal(signal.SIGINT)
            time.sleep(0.1)
            if rank.poll() is not None:
                break
        assert rank.returncode == 130
    finally:
        rank.kill()
        rank.communicate()

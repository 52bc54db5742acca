"""What the controlling machine of a round is like, where rounds.py says so in the environment.

CHAOS_LEASE: the lease of a detached run, in seconds. CHAOS_CLOCK: a file that holds by how many seconds the
machine's time of day is wrong, now.
"""

import dataclasses
import os
import time
from pathlib import Path

if "CHAOS_LEASE" in os.environ:
    from clusterctl import settings

    settings.RUN = dataclasses.replace(settings.RUN, lease_detached=float(os.environ["CHAOS_LEASE"]))
if "CHAOS_CLOCK" in os.environ:
    right, clock = time.time, Path(os.environ["CHAOS_CLOCK"])
    time.time = lambda: right() + float(clock.read_text())

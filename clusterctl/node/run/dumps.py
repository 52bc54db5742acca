"""What torch's flight recorder has written by itself, when it aborted a rank: brought home beside the logs.

Pickles that a rank has written. Nobody here reads them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat

from .directory import DUMPS

_LONGEST = 32 << 20


def publish(directory, ranks):
    """After the end of ``ranks``: what they have dumped lies beside their logs."""
    for rank in ranks:
        with contextlib.suppress(OSError):
            path = directory.path(DUMPS + "/rank-%d" % rank)
            found = os.lstat(path)
            if stat.S_ISREG(found.st_mode) and 0 < found.st_size <= _LONGEST:
                target = directory.path(directory.dump_of(rank))
                shutil.copyfile(path, target)  # logs may lie on another disk
                os.chmod(target, 0o600)

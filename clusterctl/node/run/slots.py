"""The slots of this host that a run holds. A lock ends with the agent that took it.

Of runs that begin at once on several hosts each may get some of the slots that both want. So that one of them
gets all, an agent whose run has the smaller id waits a while for the other to let go, and the other does not.
"""

import os
import re
import time

from ..shared.locks import host_mark, open_lock, text_of, try_lock
from ..shared.processes import identity, is_running

_HOLDER = re.compile(r"run ([\w.-]{1,100}) of ")
_AGENT = re.compile(r"(\d{1,18}) (\d{1,18})")
PATIENCE = 20.0
_LOOK = 0.1


class Refusal(Exception):
    """The slots cannot be had; ``run`` is the run that holds one, where that is why."""

    def __init__(self, reason, run=""):
        super().__init__(reason)
        self.run = run


class Halted(Exception):
    """Nobody wants them any more."""


def take_slots(job, halted, tell):
    """Lock this host's slots for the job; their descriptors. ``halted`` says whether to wait no more; what is
    waited for goes to ``tell``. Raises Refusal and Halted."""
    return [_take(job, slot, halted, tell) for slot in job["slots"]]


def _take(job, slot, halted, tell):
    path = "%s/clusterctl-%s-slot-%d.lock" % (job["lock_dir"], host_mark(), slot)
    try:
        lock = open_lock(path)
    except OSError as error:
        raise Refusal("slot %d cannot be locked: %s" % (slot, error)) from error
    deadline, told = time.monotonic() + PATIENCE, False
    while not try_lock(lock):
        holder, run = _holder(lock)
        gives_way = not holder or run > job["run"]
        if not gives_way or time.monotonic() > deadline:
            os.close(lock)
            raise Refusal("slot %d is busy with %s" % (slot, holder or "another run"), run)
        if halted():
            os.close(lock)
            raise Halted
        if run and not told:
            tell("slot %d: waiting for run %s, which begins at the same time, to let go of it" % (slot, run))
            told = True
        time.sleep(_LOOK)
    try:
        own = identity(os.getpid())
        text = "run %s of %s\n%d %d\n" % (job["run"], job["owner"], own["pid"], own["started"])
        os.ftruncate(lock, 0)
        os.pwrite(lock, text.encode(), 0)
    except OSError:
        return lock  # another user's file, or a full disk: locked all the same, only without our name
    return lock


def _holder(lock):
    """What the holder says of itself, and its run; empty where it has not said so yet, and the text is that
    of an agent that is no more."""
    text, _, agent = text_of(lock).partition("\n")
    known = _AGENT.fullmatch(agent)
    if known and not is_running(int(known.group(1)), int(known.group(2))):
        return "", ""
    run = _HOLDER.match(text)
    return text, run.group(1) if run else ""

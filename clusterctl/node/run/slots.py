"""The slots of this host that a run holds. A lock ends with the agent that took it."""

import os
import re

from ..shared.locks import host_mark, open_lock, text_of, try_lock

_HOLDER = re.compile(r"run ([\w.-]{1,100}) of ")


class Refusal(Exception):
    """The slots cannot be had; ``run`` is the run that holds one, where that is why."""

    def __init__(self, reason, run=""):
        super().__init__(reason)
        self.run = run


def take_slots(job):
    """Lock this host's slots for the job; their descriptors. Raises Refusal."""
    return [_take(job, slot) for slot in job["slots"]]


def _take(job, slot):
    path = "%s/clusterctl-%s-slot-%d.lock" % (job["lock_dir"], host_mark(), slot)
    try:
        lock = open_lock(path)
    except OSError as error:
        raise Refusal("slot %d cannot be locked: %s" % (slot, error)) from error
    if not try_lock(lock):
        holder = text_of(lock) or "another run"
        os.close(lock)
        run = _HOLDER.match(holder)
        raise Refusal("slot %d is busy with %s" % (slot, holder), run.group(1) if run else "")
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, ("run %s of %s" % (job["run"], job["owner"])).encode(), 0)
    except OSError:
        return lock  # another user's file, or a full disk: locked all the same, only without our name
    return lock

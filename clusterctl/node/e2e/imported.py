"""The one real `import torch` of an examination; its process stays for what is asked next."""

import threading
import time

from ..probe.system import progress
from .child import Child


def import_torch(order, files, environ):
    """(what the import shows, its process). There is no process where it failed.

    It may take as long as it gets on: it is ended when it stood still for the timeout, or has computed for
    that long. How busy the machine is does not count.
    """
    began = moved = time.monotonic()
    told, heard, done = [], threading.Event(), (0.0, 0)

    def hear(message):
        told.append(message)
        heard.set()

    child = Child(order["python"], environ, files)
    child.hand_to(hear)
    child.run("probe.torch_import")
    while not heard.wait(min(5.0, order["timeout"] / 4)):
        before, done = done, progress(child.pid)
        now = time.monotonic()
        moved = now if done != before else moved
        if now - moved > order["timeout"] or done[0] > order["timeout"]:
            child.end()
            why = "`import torch` did not end within %g s" % order["timeout"]
            return {"torch": {"ok": False, "error": why}}, None
    seconds = round(time.monotonic() - began, 3)
    if told[0] is not None:
        return {"torch": dict(told[0], seconds=seconds)}, child
    why = child.last_words or "ended without a word"
    if child.signal:
        why = "killed by signal %d while importing torch" % child.signal
    return {"torch": {"ok": False, "seconds": seconds, "error": why}}, None

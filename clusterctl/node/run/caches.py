"""A place on this node for what a run compiles: the user's own and nobody else's, or one for this run.

Its name can be guessed, and it lies where everybody may make directories. Whoever made it first could put
libraries into it that the ranks would load, so it counts only when it is ours and closed to all others.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile

PLACE = "caches.json"  # the directory of this run alone, if there is one


def prepare(directory, root, env, run):
    """Make what ``env`` names below ``root``, or the same elsewhere: (env, what to tell of it).

    A run is never refused for its caches: without any place ``env`` loses these variables.
    """
    inside = {name: value[len(root) :] for name, value in env.items() if value.startswith(root + "/")}
    others = {name: value for name, value in env.items() if name not in inside}
    try:
        why = not_private(root)
        place = root
        if why:
            place = tempfile.mkdtemp(prefix="clusterctl-caches-%s." % run, dir=os.path.dirname(root))
            directory.write(PLACE, place)
        for rest in inside.values():
            os.makedirs(place + rest, mode=0o700, exist_ok=True)
    except OSError as error:
        return others, "compiled kernels go to the home directory: %s: %s" % (root, error.strerror or error)
    found = dict(others, **{name: place + rest for name, rest in inside.items()})
    return found, "compiled kernels go to %s: %s %s" % (place, root, why) if why else ""


def not_private(path):
    """Why ``path``, made where nothing is, cannot be trusted; "" where it can. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory"
    if found.st_uid != os.getuid():
        return "belongs to another user"
    if found.st_mode & 0o077:
        return "is open to other users"
    return ""


def remove(directory):
    """What `prepare` made for this run alone."""
    place = directory.read(PLACE)
    if place and not not_private(place):
        shutil.rmtree(place, ignore_errors=True)

"""Hands files of a run back: lists what it wrote, or packs what is asked for."""

import base64
import io
import os
import tarfile

from .snapshot import digest_of
from .wire import emit, leave_nothing_behind

PIECE = 384 * 1024


def files_below(root, path):
    """Relative paths of the regular files and links at ``path`` below ``root``; nothing outside of it."""
    top = os.path.normpath(os.path.join(root, path))
    if top != root and not top.startswith(root + os.sep):
        return
    if os.path.isfile(top) or os.path.islink(top):
        yield os.path.relpath(top, root)
    for folder, _, names in os.walk(top):
        for name in names:
            found = os.path.join(folder, name)
            if os.path.isfile(found) or os.path.islink(found):
                yield os.path.relpath(found, root)


def is_new(root, snapshot, name):
    """Whether the run made or changed this file: it differs from the code it started with."""
    return digest_of(os.path.join(root, name)) != digest_of(os.path.join(snapshot, name))


class Pieces(io.RawIOBase):
    """A file that tells the controller what is written to it."""

    def writable(self):
        return True

    def write(self, data):
        emit({"is": "piece", "data": base64.b64encode(bytes(data)).decode()})
        return len(data)


def main(request, files):
    leave_nothing_behind(request["deadline"])
    root = os.path.expanduser(request["root"])
    if not os.path.isdir(root):
        emit({"is": "missing"})
        return 0
    names = sorted(files_below(root, request["path"] or "."))
    if not request["path"]:
        snapshot = os.path.join(os.path.expanduser("~/.clusterctl/node/snapshots"), request["digest"])
        names = [name for name in names if "__pycache__" not in name and is_new(root, snapshot, name)]
    sizes = {name: os.lstat(os.path.join(root, name)).st_size for name in names}
    emit({"is": "listing", "files": sizes, "there": sorted(os.listdir(root))[:20]})
    with io.BufferedWriter(Pieces(), PIECE) as stream, tarfile.open(fileobj=stream, mode="w|gz") as tar:
        for name in names:
            tar.add(os.path.join(root, name), arcname=name, recursive=False)
    emit({"is": "done"})
    return 0

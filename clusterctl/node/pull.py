"""Hands files of a run back: finds what it wrote, or what is asked for; packs that into a tar stream."""

import base64
import gzip
import io
import os
import tarfile
import threading
import time

from .run.snapshot import digest_of
from .shared.wire import emit

PIECE = 384 * 1024
NAMED = 20
CACHES = ("__pycache__", ".ipynb_checkpoints", ".git")
SLACK = 2.0


def files_below(root, path):
    """Relative paths of the regular files and links at ``path`` below ``root``; nothing outside of it."""
    top = os.path.normpath(os.path.join(root, path))
    if top != root and not top.startswith(root.rstrip(os.sep) + os.sep):
        return
    if not os.path.isdir(top):  # a link to a folder, as people make to a bigger disk, is followed here only
        if os.path.isfile(top) or os.path.islink(top):
            yield os.path.relpath(top, root)
        return
    for folder, subfolders, names in os.walk(top):
        links = [name for name in subfolders if os.path.islink(os.path.join(folder, name))]
        for name in names + links:
            found = os.path.join(folder, name)
            if os.path.isfile(found) or os.path.islink(found):
                yield os.path.relpath(found, root)


def is_code(name):
    """Whether a path is worth a look: not of a cache, nor of version control."""
    return not any(part in CACHES for part in name.split(os.sep))


def is_younger(root, name, since):
    """Whether the file was made or changed in any way after ``since``: the time of that cannot be set."""
    try:
        return os.lstat(os.path.join(root, name)).st_ctime >= since
    except OSError:
        return False


def is_new(root, origin, name):
    """Whether the run made or changed this file: it differs from the code it started with."""
    now, before = os.path.join(root, name), os.path.join(origin, name)
    if not os.path.lexists(before) or os.lstat(now).st_size != os.lstat(before).st_size:
        return True  # told without reading: checkpoints are big
    return digest_of(now) != digest_of(before)


class Pieces(io.RawIOBase):
    """A file that tells the controller what is written to it."""

    def writable(self):
        return True

    def write(self, data):
        emit({"is": "piece", "data": base64.b64encode(bytes(data)).decode()})
        return len(data)


class Exactly(io.RawIOBase):
    """The first ``size`` bytes of a file, zeros where it shrinks meanwhile: a tar member keeps its size."""

    def __init__(self, stream, size):
        self.stream = stream
        self.left = size
        self.short = False

    def read(self, size=-1):
        wanted = self.left if size < 0 else min(size, self.left)
        data = self.stream.read(wanted)
        self.short = self.short or len(data) < wanted
        self.left -= wanted
        return data.ljust(wanted, b"\0")


def add(tar, root, name):
    """Put one file into the archive; why it is not whole there, or an empty string."""
    path = os.path.join(root, name)
    info = tarfile.TarInfo(name)
    try:
        if os.path.islink(path):
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
            tar.addfile(info)
            return ""
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        return error.strerror
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(handle)
        info.size, info.mtime, info.mode = status.st_size, int(status.st_mtime), status.st_mode & 0o777
        content = Exactly(stream, status.st_size)
        tar.addfile(info, content)
    return "it shrank while it was read" if content.short else ""


def end_with_controller():
    """The controller hangs up when it has all, or when it is gone: either way nothing stays here."""
    while os.read(0, 4096):  # not through sys.stdin: its lock, held here, would spoil the end of the process
        continue
    os._exit(0)


def pack(root, names):
    """Send the files as a gzip'd tar stream; {name: why} of those that are not whole in it."""
    skipped = {}
    with io.BufferedWriter(Pieces(), PIECE) as stream:
        # Level 1: most of it is weights, which no level makes smaller.
        with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1) as packed:
            with tarfile.open(fileobj=packed, mode="w|") as tar:
                for name in names:
                    problem = add(tar, root, name)
                    if problem:
                        skipped[name] = problem
    return skipped


def main(request, files):
    threading.Thread(target=end_with_controller, daemon=True).start()
    root = os.path.normpath(request["root"])
    if not os.path.isdir(root):
        emit({"is": "refused", "reason": "%s does not exist any more" % root})
        return 0
    workdir = os.path.join(root, request["subdirectory"])
    there = sorted(os.listdir(workdir))[:NAMED] if os.path.isdir(workdir) else []
    if request["beacon"] and os.path.exists(os.path.join(workdir, request["beacon"])):
        emit({"is": "here"})  # the controller's own directory
        return 0
    path = os.path.join(request["subdirectory"], request["path"]) if request["path"] else "."
    names = sorted(files_below(root, path))
    if not request["path"] and request["in_place"]:
        since = time.time() - request["age"] - SLACK
        names = [name for name in names if is_code(name) and is_younger(root, name, since)]
    elif not request["path"]:
        snapshot = os.path.join(os.path.expanduser("~/.clusterctl/node/snapshots"), request["digest"])
        if not os.path.isdir(snapshot):
            reason = "the code it started with is no longer there to compare with; name a PATH"
            emit({"is": "refused", "reason": reason, "there": there})
            return 0
        names = [name for name in names if is_code(name) and is_new(root, snapshot, name)]
    emit({"is": "listing", "count": len(names), "there": there})
    emit({"is": "done", "skipped": pack(root, names)})
    return 0

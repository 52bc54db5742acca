"""Code on a node: is it here already, and if not, unpack it once and copy it for each run."""

import base64
import contextlib
import glob
import hashlib
import json
import os
import shutil
import stat
import tarfile
import time

ORIGIN = "origin.json"
KEEP = 4
UNUSED_SECONDS = 24 * 3600.0


def digest_of(path):
    """Content hash of one file, behind ``x:`` where its owner may execute it; of a symlink's target, behind
    ``link:``; ``folder``. None when it is missing, unreadable or none of these."""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            return "folder"
        if stat.S_ISLNK(mode):
            return "link:" + hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
        if not stat.S_ISREG(mode):
            return None
        found = hashlib.sha256()
        with open(path, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                found.update(block)
        return ("x:" if mode & stat.S_IXUSR else "") + found.hexdigest()
    except OSError:
        return None


def holds(root, manifest):
    """Whether all of ``manifest`` ({relative path: digest}) lies below ``root`` with that content.

    A character of a name stands for one byte of it: names are not always text.
    """
    base = os.fsencode(root)
    return os.path.isdir(base) and all(
        digest_of(os.path.join(base, name.encode("latin-1"))) == digest for name, digest in manifest.items()
    )


class Snapshots:
    """Immutable trees by content hash, below ``~/.clusterctl/node/snapshots``."""

    def __init__(self, base):
        self.base = base
        self.incoming = None
        self.archive = ""
        # Containers that share a home have pids in common.
        self.own = "%s.%d" % (os.uname().nodename, os.getpid())

    def path(self, digest):
        return os.path.join(self.base, digest)

    def has(self, digest):
        return bool(digest) and os.path.isdir(self.path(digest))

    def ready(self, digest):
        """Whether it is here for a run that is about to start; until then nobody removes it as unused."""
        if not self.has(digest):
            return False
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def begin(self, digest):
        """Open a private file for the archive's pieces."""
        os.makedirs(self.base, mode=0o700, exist_ok=True)
        self.archive = os.path.join(self.base, "%s.%s.tar.gz" % (digest, self.own))
        self.incoming = os.fdopen(os.open(self.archive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")

    def piece(self, text):
        assert self.incoming is not None, "begin() comes first"
        self.incoming.write(base64.b64decode(text))

    def give_up(self):
        """Leave nothing of a delivery that failed: the disk may be full."""
        if self.incoming is not None:
            with contextlib.suppress(OSError):  # what is still buffered does not fit either
                self.incoming.close()
            self.incoming = None
        for path in (self.archive, self.archive.replace(".tar.gz", ".partial")):
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            elif path and os.path.exists(path):
                os.unlink(path)

    def finish(self, digest):
        """Unpack beside the store and move into place, so that a half tree is never taken for a whole one."""
        assert self.incoming is not None, "begin() comes first"
        self.incoming.close()
        partial = self.archive.replace(".tar.gz", ".partial")
        try:
            # Symlinks of the user's tree may lead anywhere; newer Pythons refuse that unless told.
            with tarfile.open(self.archive) as archive:
                if hasattr(tarfile, "fully_trusted_filter"):
                    archive.extractall(partial, filter="fully_trusted")
                else:
                    archive.extractall(partial)
            try:
                os.rename(partial, self.path(digest))
            except OSError:
                if not self.has(digest):
                    raise
                shutil.rmtree(partial)  # another run on a shared home was first
        finally:
            os.unlink(self.archive)

    def copy(self, digest, target):
        """The tree as this run's own, writable directory; all of it or nothing."""
        os.utime(self.path(digest))
        try:
            shutil.copytree(self.path(digest), target, symlinks=True)
        except OSError:
            shutil.rmtree(target, ignore_errors=True)
            raise

    def release(self, copy, origin):
        """Empty a run's copy if nothing was written there. The file ``origin`` names its snapshot."""
        digest = origin_of(origin)
        if not os.path.isdir(copy):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(origin)
        elif self.is_origin(digest, copy):
            shutil.rmtree(copy)
            os.mkdir(copy, 0o700)
            os.unlink(origin)

    def is_origin(self, digest, copy):
        """Whether ``copy`` is still as it came from the snapshot ``digest``."""
        return self.has(digest) and _entries(self.path(digest)) == _entries(copy)

    def prune(self):
        """Remove what nobody has used for a day, and what was left of a delivery that was killed.

        The few used last stay, and those that the outputs of a run are told by.
        """
        by_use = sorted(self._used(), reverse=True)
        kept = set([name for _, name in by_use if "." not in name][:KEEP])
        kept.update(map(origin_of, glob.glob(os.path.join(os.path.dirname(self.base), "*", "*", ORIGIN))))
        for used, name in by_use:
            if time.time() - used > UNUSED_SECONDS and name not in kept:
                path = os.path.join(self.base, name)
                if os.path.isdir(path):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    with contextlib.suppress(FileNotFoundError):  # another run on a shared home was first
                        os.unlink(path)

    def _used(self):
        for name in os.listdir(self.base) if os.path.isdir(self.base) else ():
            with contextlib.suppress(FileNotFoundError):
                yield os.stat(os.path.join(self.base, name)).st_mtime, name


def origin_of(path):
    """The digest that a run's file says its copy came from; empty where there is none."""
    try:
        with open(path) as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return ""


def _entries(tree):
    """What tells a changed tree: size, time, mode of a file, the target of a symlink, None for a folder."""
    found = {}
    for folder, subfolders, names in os.walk(tree):
        subfolders[:] = [name for name in subfolders if name != "__pycache__"]
        for name in subfolders + names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                what = None
            elif stat.S_ISLNK(status.st_mode):
                what = os.readlink(path)
            else:
                what = (status.st_size, status.st_mtime_ns, status.st_mode & stat.S_IXUSR)
            found[os.path.relpath(path, tree)] = what
    return found

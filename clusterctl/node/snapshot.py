"""Code on a node: is it here already, and if not, unpack it once and copy it for each run."""

import base64
import contextlib
import hashlib
import os
import shutil
import tarfile
import time

KEEP = 4
UNUSED_SECONDS = 24 * 3600.0


def digest_of(path):
    """Content hash of one file, or of a symlink's target; None when it is missing."""
    try:
        if os.path.islink(path):
            return "link:" + os.readlink(path)
        found = hashlib.sha256()
        with open(path, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                found.update(block)
        return found.hexdigest()
    except OSError:
        return None


def holds(root, manifest):
    """Whether every file of ``manifest`` ({relative path: digest}) lies below ``root`` with that content."""
    return os.path.isdir(root) and all(
        digest_of(os.path.join(root, name)) == digest for name, digest in manifest.items()
    )


class Snapshots:
    """Immutable trees by content hash, below ``~/.clusterctl/node/snapshots``."""

    def __init__(self, base):
        self.base = base
        os.makedirs(base, mode=0o700, exist_ok=True)
        self.incoming = None

    def path(self, digest):
        return os.path.join(self.base, digest)

    def has(self, digest):
        return os.path.isdir(self.path(digest))

    def begin(self, digest):
        """Open a private file for the archive's pieces."""
        self.archive = os.path.join(self.base, "%s.%d.tar.gz" % (digest, os.getpid()))
        self.incoming = os.fdopen(os.open(self.archive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")

    def piece(self, text):
        self.incoming.write(base64.b64decode(text))

    def finish(self, digest):
        """Unpack beside the store and move into place, so that a half tree is never taken for a whole one."""
        self.incoming.close()
        partial = "%s.%d.partial" % (self.path(digest), os.getpid())
        try:
            # Symlinks of the user's tree may lead anywhere; newer Pythons refuse that unless told.
            trusted = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
            with tarfile.open(self.archive) as archive:
                archive.extractall(partial, **trusted)
            try:
                os.rename(partial, self.path(digest))
            except OSError:
                if not self.has(digest):
                    raise
                shutil.rmtree(partial)  # another run on a shared home was first
        finally:
            os.unlink(self.archive)

    def copy(self, digest, target):
        """The tree as this run's own, writable directory."""
        os.utime(self.path(digest))
        shutil.copytree(self.path(digest), target, symlinks=True)

    def prune(self):
        """Remove what nobody has used for a day, but for the few used last; a killed delivery's rest, too."""
        by_use = sorted(self._used(), reverse=True)
        whole = [name for _, name in by_use if "." not in name]
        for used, name in by_use:
            if time.time() - used > UNUSED_SECONDS and name not in whole[:KEEP]:
                path = os.path.join(self.base, name)
                if os.path.isdir(path):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    with contextlib.suppress(FileNotFoundError):  # another run on a shared home was first
                        os.unlink(path)

    def _used(self):
        for name in os.listdir(self.base):
            with contextlib.suppress(FileNotFoundError):
                yield os.stat(os.path.join(self.base, name)).st_mtime, name

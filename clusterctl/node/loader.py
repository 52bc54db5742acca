"""Loads programs of this room that have travelled as one text, from nothing but that text.

Compiled code is kept in ~/.clusterctl/node/compiled by the digest of all sources and the version of Python's
code, so that the next launch need not compile again; it is read only from files that nobody but their owner
can have written.
"""

import json
import marshal
import os
import stat
import sys
from _frozen_importlib_external import MAGIC_NUMBER
from importlib import import_module
from importlib.machinery import ModuleSpec

TOP = "clusterctl_node"
KEPT = 12


def load(digest, sources, name):
    """The module ``name``, which finds the others in ``sources``. Without ``digest`` nothing is kept."""
    sys.meta_path.insert(0, Modules(digest, sources))
    return import_module("%s.%s" % (TOP, name))


class Modules:
    # No subclass of importlib.abc: that module costs more to load than the bundle takes to run.
    def __init__(self, digest, sources):
        self.digest = digest
        self.sources = sources
        self.packages = {TOP, *("%s.%s" % (TOP, name.rpartition(".")[0]) for name in sources if "." in name)}
        self.place = place_of(digest) if digest and not sys.flags.optimize else ""
        self.kept = read(self.place) if self.place else {}

    def find_spec(self, name, path=None, target=None):
        if name in self.packages or (name.startswith(TOP + ".") and module_of(name) in self.sources):
            return ModuleSpec(name, self, is_package=name in self.packages)  # type: ignore[arg-type]
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(self.code(module_of(module.__name__)), module.__dict__)

    def get_source(self, name):
        """For tracebacks."""
        return self.sources.get(module_of(name), "")

    def code(self, name):
        if name in self.kept:
            return marshal.loads(self.kept[name])
        path = "clusterctl/node/%s.py" % name.replace(".", "/")
        return compile(self.sources.get(name, ""), path, "exec", dont_inherit=True)

    def keep(self):
        """Compile all modules for the next time, unless that has been done. Raises OSError."""
        if self.kept or not self.place:
            return
        from zlib import crc32

        packed = marshal.dumps({name: marshal.dumps(self.code(name)) for name in self.sources})
        folder = os.path.dirname(self.place)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        partial = "%s.%s.%d" % (self.place, os.uname().nodename, os.getpid())
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(crc32(packed).to_bytes(4, "big") + packed)
            os.replace(partial, self.place)
        except OSError:
            os.unlink(partial)
            raise
        for entry in sorted(os.scandir(folder), key=lambda each: each.stat().st_mtime)[:-KEPT]:
            os.unlink(entry.path)


def module_of(name):
    return name.partition(".")[2]


def place_of(digest):
    folder = os.path.join(os.path.expanduser("~"), ".clusterctl", "node", "compiled")
    return os.path.join(folder, "%s-%s" % (digest, MAGIC_NUMBER.hex()))


def read(place):
    """Code by module as `Modules.keep` left it; nothing where it is not whole, or not safely ours."""
    from zlib import crc32

    try:
        if not private(os.lstat(os.path.dirname(place)), stat.S_ISDIR):
            return {}
        handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as stream:
            if not private(os.fstat(handle), stat.S_ISREG):
                return {}
            check, packed = stream.read(4), stream.read()
    except OSError:
        return {}
    return marshal.loads(packed) if packed and check == crc32(packed).to_bytes(4, "big") else {}


def private(status, is_kind):
    """Whether it is of that kind, belongs to us, and is closed to all others."""
    return is_kind(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def run(text):
    """What a bundle says: the module to load and what to call its ``main`` with."""
    bundle = json.loads(text)
    program = load(bundle["digest"], bundle["files"], bundle["main"])
    return program.main(bundle["request"], bundle["files"])

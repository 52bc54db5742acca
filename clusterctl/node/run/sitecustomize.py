"""First in PYTHONPATH of a rank: leaves a JSON file when an exception ends the script, and lets its stacks be
read while it runs.

It takes itself out of the path and hands on to the `sitecustomize` that would have run without it, so that
the script and the processes it starts see the environment they would have seen by hand. What it prepares for
a rank that hangs is best effort: whatever of it fails, the script runs as it would have.
"""

import os
import sys

_MODULE = "torch.distributed.distributed_c10d"
_DESCRIPTOR = 200


def _step_aside():
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    rest = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    rest = [entry for entry in rest if os.path.abspath(entry) != here]
    if rest:
        os.environ["PYTHONPATH"] = os.pathsep.join(rest)
    else:
        os.environ.pop("PYTHONPATH", None)
    own = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = own  # the import under way wants to find what it loads


def _report_to(path):
    before = sys.excepthook

    def report(kind, value, trace):
        meanwhile = ""
        for _ in range(3):
            try:
                note(kind, value, trace, meanwhile)
                break
            except Exception as other:  # a signal handler of the script's: data loaders tell of a dead one so
                meanwhile = "Meanwhile: %s: %s\n\n" % (type(other).__name__, other)
        before(kind, value, trace)

    def note(kind, value, trace, meanwhile):
        import json
        import time
        import traceback

        text = "".join(traceback.format_exception(kind, value, trace))
        name = kind.__name__ if kind.__module__ == "builtins" else kind.__module__ + "." + kind.__name__
        error = {
            "type": name,
            "message": str(value)[:4000],
            "traceback": meanwhile + text[-16000:],
            "time": time.time(),
        }
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
                json.dump(error, stream)
        except OSError as problem:
            sys.stderr.write("clusterctl: could not note this error: %s\n" % problem)

    sys.excepthook = report


def _arm_signal(folder):
    """A signal nobody uses has all stacks written to a file, without the GIL and out of any wait but state D.
    The descriptor of that file is out of the way of the script's own."""
    # The one behind `signal`, which costs more to import than all of this.
    import _signal  # type: ignore[import-not-found]
    import faulthandler
    import fcntl

    path = os.path.join(folder, "%d.stacks" % os.getpid())
    low = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        target = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _DESCRIPTOR)
    finally:
        os.close(low)
    faulthandler.register(_signal.SIGRTMIN + 5, file=target, all_threads=True, chain=False)


class _AfterTorch:
    """A finder that finds nothing itself: it has ``then`` called once torch's module has been executed, and
    leaves no trace in `sys.meta_path` nor in the module."""

    def __init__(self, then):
        self._then = then
        self._loader = then  # until there is one

    def find_spec(self, name, path=None, target=None):
        if name != _MODULE:
            return None
        import importlib.util

        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            self._loader, spec.loader = spec.loader, self  # type: ignore[assignment]
        return spec

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        try:  # noqa: SIM105 - contextlib would cost every rank its import
            self._then()
        except Exception:  # the user's import of torch has worked, whatever comes after it
            pass


def _serve_from(folder):
    """Have torch's debug server listen in this process, where torch has one. It says so on stderr with a line
    that would stand in the user's log, unless its level is raised for that moment."""
    import ctypes

    from torch._C._distributed_c10d import _WorkerServer

    library = os.path.join(os.path.dirname(str(sys.modules["torch"].__file__)), "lib", "libc10.so")
    try:
        level = ctypes.c_int.in_dll(ctypes.CDLL(library), "FLAGS_caffe2_log_level")
    except (OSError, ValueError):  # a build that logs in another way: that line is worth what it brings
        level = ctypes.c_int()
    before, level.value = level.value, 2
    try:
        server = _WorkerServer(os.path.join(folder, "%d.sock" % os.getpid()))
    finally:
        level.value = before
    # For ever: ended in a forked child, it would wait there for a thread that only the parent has.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(server))


def _be_visible(folder):
    try:
        _arm_signal(folder)
        sys.meta_path.insert(0, _AfterTorch(lambda: _serve_from(folder)))
    except Exception:  # a rank that cannot be looked at trains as well
        pass


_file = os.environ.pop("CLUSTERCTL_ERROR_FILE", None)
_folder = os.environ.pop("CLUSTERCTL_STACKS", None)
_step_aside()
if _file:
    _report_to(_file)
if _folder:
    _be_visible(_folder)

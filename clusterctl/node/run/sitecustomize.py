"""First in PYTHONPATH of a rank: leaves a JSON file when an exception ends the script.

It takes itself out of the path and hands on to the `sitecustomize` that would have run without it, so that
the script and the processes it starts see the environment they would have seen by hand.
"""

import os
import sys


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
        import json
        import time
        import traceback

        text = "".join(traceback.format_exception(kind, value, trace))
        name = kind.__name__ if kind.__module__ == "builtins" else kind.__module__ + "." + kind.__name__
        error = {
            "type": name,
            "message": str(value)[:4000],
            "traceback": text[-16000:],
            "time": time.time(),
        }
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
                json.dump(error, stream)
        except OSError as problem:
            sys.stderr.write("clusterctl: could not note this error: %s\n" % problem)
        before(kind, value, trace)

    sys.excepthook = report


_file = os.environ.pop("CLUSTERCTL_ERROR_FILE", None)
_step_aside()
if _file:
    _report_to(_file)

"""Starts one of our programs with nothing but the standard library and this code in its path.

Lies in the code directory of a run under the name of the program: ``agent.py``, ``rank.py``, ``enter.py``. A
user's ``queue.py`` in the home directory, in PYTHONPATH or in site-packages must not become ours.
"""

import os  # from the standard library: the interpreter has loaded it to start
import sys

_library = os.path.dirname(os.__file__)
_code = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [
    entry
    for entry in sys.path
    if entry == _library
    or os.path.basename(entry) == "lib-dynload"
    or (os.path.basename(entry).startswith("python3") and entry.endswith(".zip"))
]
sys.path.append(_code)
_ROOMS = {"observer": "observe", "watches": "watch"}


def main():
    import importlib
    import json

    loader = importlib.import_module("loader")
    name = os.path.splitext(os.path.basename(__file__))[0]
    with open(os.path.join(_code, "bundle.json")) as stream:
        bundle = json.load(stream)
    program = loader.load(bundle["digest"], bundle["files"], "%s.%s" % (_ROOMS.get(name, "run"), name))
    sys.exit(program.main(sys.argv[1:]))


if __name__ == "__main__":
    main()

"""Starts one of the sandbox's own programs: ``python -I -S helper.py PROGRAM ARGS...``.

Isolated mode starts in a few milliseconds and takes nothing from the user's environment; in return the
package has to be put on the path by hand.
"""

from __future__ import annotations

import importlib
import sys


def main() -> int:
    """Run the ``main(arguments)`` of the named module and return its status."""
    sys.path.insert(0, __file__.rsplit("/", 3)[0])
    program = importlib.import_module(f"clusterctl.sandbox.{sys.argv[1]}")
    status: int = program.main(sys.argv[2:])
    return status


if __name__ == "__main__":
    sys.exit(main())

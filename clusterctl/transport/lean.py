"""paramiko without invoke, which it imports, at the cost of all of its own, to read a config with `Match
exec`: ours is read by `ssh`. Whoever else in this process has paramiko read one gets invoke then."""

from __future__ import annotations

import importlib
import sys
from typing import Any

_INVOKE = "invoke"


class _Later:
    """A module that is imported when something in it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


def load() -> None:
    """Import paramiko, unless it or invoke is there already."""
    if _INVOKE in sys.modules or "paramiko" in sys.modules:
        return
    sys.modules[_INVOKE] = None  # type: ignore[assignment] # "not there", says the import system
    try:
        importlib.import_module("paramiko")
    finally:
        del sys.modules[_INVOKE]
    vars(sys.modules["paramiko.config"])[_INVOKE] = _Later(_INVOKE)

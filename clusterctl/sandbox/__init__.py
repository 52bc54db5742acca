"""Virtual hosts on one Linux machine, each with a real OpenSSH server: the embedded default and the test bed.

The names below are loaded when first used: the sandbox's own small programs import this package too, and
must start in milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clusterctl.sandbox.host import VirtualHost
    from clusterctl.sandbox.lifecycle import Sandbox, running_default
    from clusterctl.sandbox.spec import FileSpec, HostSpec, Nic

__all__ = ["FileSpec", "HostSpec", "Nic", "Sandbox", "VirtualHost", "running_default"]

_HOMES = {
    "FileSpec": "spec",
    "VirtualHost": "host",
    "HostSpec": "spec",
    "Nic": "spec",
    "Sandbox": "lifecycle",
    "running_default": "lifecycle",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

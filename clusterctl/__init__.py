"""clusterctl: check machines over SSH, train across all of them, say what went wrong.

``from clusterctl import Cluster`` is all that most programs need; docs/api.md has the rest. The names below
are loaded when first used: `clusterctl --help` must not pay for them.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, which is more than the whole of this to load
if TYPE_CHECKING:
    from typing import Any

    from clusterctl.checks.evaluate import Report
    from clusterctl.errors import ClusterctlError, UsageError
    from clusterctl.session.cluster import Answers, Cluster
    from clusterctl.session.detached import DetachedRun
    from clusterctl.session.options import LaunchOptions
    from clusterctl.session.refused import RefusedError
    from clusterctl.session.run import Run
    from clusterctl.store.outcome import Outcome

__version__ = "0.1.0"
__all__ = [
    "Answers",
    "Cluster",
    "ClusterctlError",
    "DetachedRun",
    "LaunchOptions",
    "Outcome",
    "RefusedError",
    "Report",
    "Run",
    "UsageError",
    "__version__",
]

_HOMES = {
    "Answers": "session.cluster",
    "Cluster": "session.cluster",
    "ClusterctlError": "errors",
    "DetachedRun": "session.detached",
    "LaunchOptions": "session.options",
    "Outcome": "store.outcome",
    "RefusedError": "session.refused",
    "Report": "checks.evaluate",
    "Run": "session.run",
    "UsageError": "errors",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

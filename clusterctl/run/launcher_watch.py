"""What a run has to know of DeepSpeed's launcher: that it failed, or cannot reach a host."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from clusterctl.plan.model import LaunchPlan
from clusterctl.run.launcher import DeepSpeedLauncher
from clusterctl.run.recorder import Recorder

_PDSH_TIMEOUT = 3.0


class LauncherFailure(msgspec.Struct, frozen=True):
    """``node`` is the one that could not be reached, None where the launcher itself is to blame."""

    message: str
    node: int | None = None


class LauncherWatch:
    """Has the launcher started, and looks at what the recorder reads of it."""

    def __init__(
        self, plan: LaunchPlan, recorder: Recorder, make: Callable[[LaunchPlan], DeepSpeedLauncher]
    ) -> None:
        self._plan = plan
        self._recorder = recorder
        self._started = recorder.launch(partial(make, plan))
        self._unreached_since: dict[str, float] = {}

    def failure(self, has_begun: Callable[[int], bool], now: float) -> LauncherFailure | None:
        """``has_begun`` says of a node whether an engine has: then pdsh did reach it."""
        error = self._started.exception() if self._started.done() else None
        if error is not None:
            return LauncherFailure(f"deepspeed's launcher cannot be started: {error}")
        launcher = self._recorder.launcher
        if launcher is None:
            return None
        for host, said in launcher.unreached.items():
            node = self._node(host)
            if node is None or has_begun(node):
                continue
            since = self._unreached_since.setdefault(host, now)
            if launcher.trouble or now - since > _PDSH_TIMEOUT:
                return LauncherFailure(f"pdsh could not start the engine there: {said}", node)
        return LauncherFailure(launcher.trouble) if launcher.trouble else None

    def _node(self, host: str) -> int | None:
        """pdsh may tell a host by the first part of its name."""
        names = ((node.node_rank, node.host) for node in self._plan.nodes)
        return next((rank for rank, name in names if host in (name, name.partition(".")[0])), None)

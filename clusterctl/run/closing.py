"""After the last decision of a run: its records are kept here, and its hosts forget it."""

from __future__ import annotations

import time

from clusterctl.messages import orders, relay
from clusterctl.plan.model import LaunchPlan
from clusterctl.report.findings import brief
from clusterctl.run.display import Display
from clusterctl.run.links import Broken, Heard, Links
from clusterctl.run.operator import Operator
from clusterctl.run.past import AttemptEnd
from clusterctl.run.recorder import Kept, Notice, Recorder
from clusterctl.store.outcome import Outcome

_LOOK = 0.2
_FORGET_TIMEOUT = 5.0
_PATIENCE = 2.0
"""A wait that is shorter is not told."""


class Closing:
    """Call `keep`, then `forget`, once each. Neither waits without an end."""

    def __init__(
        self, plan: LaunchPlan, links: Links, recorder: Recorder, operator: Operator, display: Display
    ) -> None:
        self._plan = plan
        self._links = links
        self._recorder = recorder
        self._operator = operator
        self._display = display

    def keep(self, end: Outcome | AttemptEnd, hosts: tuple[str, ...], timeout: float) -> Kept:
        """Have all that is under way written, and how the run ended, or the attempt, with what is missing of
        the logs of ``hosts``.
        Gives up when the disk has not answered for ``timeout`` seconds, and by an interrupt that comes when
        it is known to be waited for, however well it answers."""
        kept = self._recorder.finish(end, hosts)
        begun, told = time.monotonic(), False
        while not kept.done():
            self._links.poll(_LOOK)
            for report in self._recorder.reports():
                if isinstance(report, Notice):
                    self._display.say(report.text)
            waited = time.monotonic() - begun
            silent = min(waited, self._recorder.silence())
            # Those from before meant the run, which has ended.
            interrupted = bool(self._operator.interrupts()) and told
            if interrupted or silent > timeout:
                why = "was not waited for" if interrupted else "does not answer"
                return Kept(hosts, f"the disk of {self._recorder.path} {why}", disk_answers=False)
            if waited > _PATIENCE and not told:
                told = True
                self._display.say(f"waiting for the disk of {self._recorder.path}; Ctrl-C: no longer")
        return kept.result()

    def forget(self, nodes: set[int], *, last: bool = True) -> None:
        """Have these nodes remove what is all here now, and wait a moment for their word that they did.
        Unless this attempt is the ``last``, they keep the run's copy of its code."""
        waiting = nodes & self._links.nodes
        for node in waiting:
            self._links.post(node, orders.Forget(enter=self._plan.enter, last=last))
        deadline = time.monotonic() + _FORGET_TIMEOUT
        while waiting and time.monotonic() < deadline:
            left = brief(self._plan.nodes[node].host for node in sorted(waiting))
            self._display.ending(f"waiting for {left} to clear up")
            for event in self._links.poll(_LOOK):
                replies = event.replies if isinstance(event, Heard) else ()
                forgotten = any(isinstance(reply, relay.Forgotten) for reply in replies)
                if forgotten or isinstance(event, Broken):
                    waiting.discard(event.node)
        self._display.ending("")

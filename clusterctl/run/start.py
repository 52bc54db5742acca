"""The start of a run: a session on every host, the code there, an agent on each. All or none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import msgspec

from clusterctl.ask.tree import Tree
from clusterctl.engines.command import node_argv, node_files
from clusterctl.errors import ClusterctlError
from clusterctl.messages.orders import Job, StartAgent
from clusterctl.messages.relay import Failed, Started
from clusterctl.plan.model import LaunchPlan, NodePlan
from clusterctl.report.findings import brief
from clusterctl.run.checkpoints import Choice
from clusterctl.run.delivery import Delivery
from clusterctl.run.display import Display
from clusterctl.run.links import Broken, Heard, LinkEvent, Links, Opened, Unopened
from clusterctl.run.resuming import Resuming, as_event, in_words, variables
from clusterctl.settings import RUN, SSH
from clusterctl.store.log_files import head_of

_AGENT_TIMEOUT = 60.0
_LOOK = 0.2
_PATIENCE = 2.0
"""A wait that is shorter is not told."""


class Halted(Exception):
    """Somebody wanted the run to end before it had begun."""


class Startup:
    """Call `carry_out` once; what it has reached is here when it raises, too.

    ``ordered`` are the nodes that were told to start an agent; ``early`` is what came beyond the word that
    they did, for whoever follows the run. ``resumed`` is the checkpoint that this attempt goes on from.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        tree: Tree | None,
        links: Links,
        *,
        owner: str,
        stdin: bool,
        in_place: dict[str, bool],
        record: Callable[[Mapping[str, Any]], None],
        halted: Callable[[], bool],
        display: Display,
    ) -> None:
        """``record`` keeps an event; ``halted`` is asked often: true ends the start with `Halted`.

        ``in_place``: by host, whether it runs in the working directory itself. What an earlier attempt found
        stays so, whatever has been edited there since: the script is to find what it wrote.
        """
        self.ordered: set[int] = set()
        self.early: list[LinkEvent] = []
        self.resumed = Choice()
        self._plan = plan
        self._tree = tree
        self._links = links
        self._owner = owner
        self._stdin = stdin
        self._record = record
        self._halted = halted
        self._display = display
        self._in_place = in_place

    def carry_out(self, after: Future[None] | None = None) -> None:
        """Ask no host before ``after`` is done. Raises ClusterctlError for a host that cannot take its part,
        Halted, and what ``after`` ended with."""
        if after is not None:
            self._await(after)
        self._connect()
        if self._tree is not None:
            Delivery(self._plan, self._tree, self._links, self._display, self._check).carry_out(
                self._in_place
            )
        if self._plan.looks_for_checkpoints:
            resuming = Resuming(self._plan, self._links, cwd=self._cwd, check=self._check, early=self.early)
            self.resumed = resuming.carry_out()
            self._record(as_event(self.resumed))
            said = in_words(self._plan, self.resumed)
            self._record({"event": "say", "time": time.time(), "text": said})
            self._display.say(said)
        self._start_agents()

    def _check(self) -> None:
        if self._halted():
            raise Halted

    def _await(self, done: Future[None]) -> None:
        begun = time.monotonic()
        while not done.done():
            self._links.poll(_LOOK)
            self._check()
            if time.monotonic() - begun > _PATIENCE:
                self._display.awaiting("waiting for this machine's disk")
        done.result()

    def _connect(self) -> None:
        waiting = {node.node_rank for node in self._plan.nodes}
        failures = []
        deadline = time.monotonic() + SSH.probe_timeout
        self._links.open(waiting, deadline, attach=False)
        while waiting:
            for event in self._links.poll(_LOOK):
                if isinstance(event, Unopened):
                    failures.append(event.failure)
                if isinstance(event, Opened | Unopened):
                    waiting.discard(event.node)
            self._check()
            if waiting:
                self._display.awaiting(f"connecting to {self._brief(waiting)}")
            if waiting and time.monotonic() > deadline + SSH.send_timeout:
                raise ClusterctlError(f"no connection in time to {self._names(waiting)}")
        if failures:
            raise ClusterctlError(
                "; ".join(f"{f.host}: {f.message}" for f in failures), hint=failures[0].hint
            )

    def _start_agents(self) -> None:
        waiting = {node.node_rank for node in self._plan.nodes}
        self._links.listen(waiting)
        for node in self._plan.nodes:
            self._links.post(node.node_rank, StartAgent(job=self._job(node)))
            self.ordered.add(node.node_rank)
        deadline = time.monotonic() + _AGENT_TIMEOUT
        while waiting:
            if time.monotonic() > deadline:
                raise ClusterctlError(
                    f"no agent started within {_AGENT_TIMEOUT:g} s on {self._names(waiting)}"
                )
            self._display.awaiting(f"starting on {self._brief(waiting)}")
            trouble = ""
            for event in self._links.poll(_LOOK):
                trouble = self._take(event, waiting) or trouble
            if trouble:
                raise ClusterctlError(trouble)
            self._check()

    def _take(self, event: LinkEvent, waiting: set[int]) -> str:
        """Note who has started; why the run cannot start, if so. Everything else is for later."""
        host = self._plan.nodes[event.node].host
        if not isinstance(event, Heard):
            self.early.append(event)
            if isinstance(event, Broken) and event.node in waiting:
                return f"{host}: the connection ended before the agent started: {event.reason}"
            return ""
        rest, trouble = [], ""
        for reply in event.replies:
            if isinstance(reply, Started):
                waiting.discard(event.node)
                about = {"event": "started", "time": time.time(), "host": host, "node_rank": event.node}
                self._record(about | msgspec.structs.asdict(reply))
            elif isinstance(reply, Failed) and event.node in waiting:
                self.ordered.discard(event.node)
                trouble = f"{host}: cannot start there: {reply.reason}"
            else:
                rest.append(reply)
        self.early.append(Heard(event.node, tuple(rest)))
        return trouble

    def _brief(self, nodes: set[int]) -> str:
        return brief(self._plan.nodes[each].host for each in sorted(nodes))

    def _names(self, nodes: set[int]) -> str:
        return ", ".join(self._plan.nodes[each].host for each in sorted(nodes))

    def _cwd(self, node: NodePlan) -> str | None:
        """None: in a copy of its own."""
        here = self._tree is None or self._in_place[node.host]
        return (node.workdir or self._plan.code.root) if here else None

    def _env(self, node: NodePlan) -> dict[str, str]:
        env = {setting.name: setting.value for setting in node.settings}
        env["CLUSTERCTL_ATTEMPT"] = str(self._plan.attempt)
        return env | variables(self.resumed, node.host)

    def _job(self, node: NodePlan) -> Job:
        code, again = self._plan.code, self._plan.resume_arguments
        return Job(
            run=self._plan.run,
            owner=self._owner,
            node_rank=node.node_rank,
            slots=node.slots,
            ranks=node.ranks,
            python=node.python,
            command=tuple(part.replace("{python}", node.python) for part in self._plan.command),
            arguments=again if self.resumed.tag and again is not None else self._plan.arguments,
            pass_local_rank=self._plan.pass_local_rank,
            env=self._env(node),
            removed=node.removed,
            engine=node_argv(self._plan, node),
            enter=self._plan.enter,
            files=node_files(self._plan),
            cwd=self._cwd(node),
            subdirectory=code.subdirectory,
            digest=code.digest,
            failure_grace=RUN.failure_grace,
            lock_dir="/tmp",
            interface=node.ifname,
            watched=(self._plan.checkpoint_dir,) if self._plan.checkpoint_dir else (),
            log_head=head_of(self._plan.log_limit),
            log_limit=self._plan.log_limit,
            caches=node.caches,
            stdin=self._stdin and 0 in node.ranks,
            observed=self._plan.hangs.timeout > 0,
        )

"""The start of a run: a session on every host, the code there, an agent on each. All or none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

import msgspec

from clusterctl.ask.bundle import REMOTE_COMMAND
from clusterctl.ask.host_session import HostSession
from clusterctl.ask.sync import Packed, deliver
from clusterctl.ask.tree import Tree
from clusterctl.engines.command import node_argv, node_files
from clusterctl.errors import ClusterctlError
from clusterctl.messages.relay import Failed, Job, Keepalive, Reply, StartAgent, Started
from clusterctl.plan.model import LaunchPlan, NodePlan
from clusterctl.settings import RUN, SSH
from clusterctl.transport.protocol import Channel, Failure, Transport

_AGENT_DEADLINE = 60.0
_LOOK = 0.2
_DELIVERIES = 16


class Halted(Exception):
    """Somebody wanted the run to end before it had begun."""


class Startup:
    """Call `carry_out` once; what it has reached is here when it raises, too.

    ``sessions`` holds the hosts that can be talked to, by node rank; ``ordered`` those that were told to
    start an agent; ``early`` what they said beyond that they did, for whoever follows the run.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        tree: Tree | None,
        transport: Transport,
        *,
        owner: str,
        greet: Callable[[int, Channel], HostSession[Reply]],
        record: Callable[[dict[str, Any]], None],
        halted: Callable[[], bool],
    ) -> None:
        """``record`` keeps an event; ``halted`` is asked often: true ends the start with `Halted`."""
        self.sessions: dict[int, HostSession[Reply]] = {}
        self.ordered: set[int] = set()
        self.early: list[tuple[int, Reply]] = []
        self._plan = plan
        self._tree = tree
        self._transport = transport
        self._owner = owner
        self._greet = greet
        self._record = record
        self._halted = halted
        self._in_place: dict[int, bool] = {}
        self._beat = 0.0

    def carry_out(self) -> None:
        """Raises ClusterctlError for a host that cannot take its part, OSError for a broken link, Halted."""
        self._connect()
        if self._tree is not None:
            self._deliver(self._tree)
        self._start_agents()

    def _connect(self) -> None:
        ranks = {node.host: node.node_rank for node in self._plan.nodes}
        failures = []
        deadline = time.monotonic() + SSH.probe_timeout
        for host, channel in self._transport.open_all(list(ranks), REMOTE_COMMAND, deadline):
            if isinstance(channel, Failure):
                failures.append(channel)
            else:
                self.sessions[ranks[host]] = self._greet(ranks[host], channel)
            self._tend()
        if failures:
            raise ClusterctlError(
                "; ".join(f"{f.host}: {f.message}" for f in failures), hint=failures[0].hint
            )

    def _deliver(self, tree: Tree) -> None:
        deadline = time.monotonic() + RUN.sync_timeout
        lock = threading.Lock()
        packed: list[Packed] = []

        def content() -> Packed:
            with lock:
                if not packed:
                    packed.append(Packed(tree))
            return packed[0]

        def one(node: NodePlan) -> None:
            self._in_place[node.node_rank] = deliver(
                self.sessions[node.node_rank],
                tree,
                content,
                root=node.workdir or tree.root,
                in_place=self._plan.code.in_place,
                deadline=deadline,
            )

        pool = ThreadPoolExecutor(max_workers=min(_DELIVERIES, len(self._plan.nodes)))
        try:
            going = {pool.submit(one, node) for node in self._plan.nodes}
            while going:
                done, going = wait(going, timeout=_LOOK, return_when=FIRST_EXCEPTION)
                for each in done:
                    each.result()
                self._tend()
        except BaseException:
            # One host's trouble, or Ctrl-C, does not wait for the others' copies. Nothing was started yet.
            for session in self.sessions.values():
                session.close()
            pool.shutdown(cancel_futures=True)
            self.sessions.clear()
            raise
        finally:
            pool.shutdown()
            for archive in packed:
                archive.close()

    def _start_agents(self) -> None:
        for node in self._plan.nodes:
            self.sessions[node.node_rank].send(StartAgent(job=self._job(node)))
            self.ordered.add(node.node_rank)
        waiting = set(self.sessions)
        deadline = time.monotonic() + _AGENT_DEADLINE
        while waiting:
            if time.monotonic() > deadline:
                names = ", ".join(self._plan.nodes[each].host for each in sorted(waiting))
                raise ClusterctlError(f"no agent started within {_AGENT_DEADLINE:g} s on {names}")
            for node_rank in sorted(waiting):
                if self._heard_start(node_rank):
                    waiting.discard(node_rank)
            self._tend()
            time.sleep(0.01)

    def _heard_start(self, node_rank: int) -> bool:
        """Whether the agent of this node has started. Raises ClusterctlError when it will not."""
        session = self.sessions[node_rank]
        started, refusal = False, ""
        for message in session.receive():
            if isinstance(message, Started):
                started = True
                self._record({"event": "started", "host": session.host} | msgspec.structs.asdict(message))
            elif isinstance(message, Failed) and not started:
                refusal = message.reason
            else:
                self.early.append((node_rank, message))
        if refusal:
            self.ordered.discard(node_rank)
            raise ClusterctlError(f"{session.host}: cannot start there: {refusal}")
        if not started and session.ended:
            last = session.last_words
            raise ClusterctlError(
                f"{session.host}: the connection ended before the agent started"
                + (f": {last}" if last else "")
            )
        return started

    def _tend(self) -> None:
        """Heed who wants an end, and let no host that waits for others believe this machine is gone."""
        if self._halted():
            raise Halted
        now = time.monotonic()
        if now - self._beat >= RUN.heartbeat:
            self._beat = now
            for session in self.sessions.values():
                session.nudge(Keepalive())

    def _job(self, node: NodePlan) -> Job:
        code = self._plan.code
        here = self._tree is None or self._in_place[node.node_rank]
        return Job(
            run=self._plan.run,
            owner=self._owner,
            node_rank=node.node_rank,
            slots=node.slots,
            ranks=node.ranks,
            python=node.python,
            command=tuple(part.replace("{python}", node.python) for part in self._plan.command),
            arguments=self._plan.arguments,
            pass_local_rank=self._plan.pass_local_rank,
            env={setting.name: setting.value for setting in node.settings},
            removed=node.removed,
            engine=node_argv(self._plan, node),
            enter=self._plan.enter,
            files=node_files(self._plan),
            cwd=(node.workdir or code.root) if here else None,
            subdirectory=code.subdirectory,
            digest=code.digest,
            failure_grace=RUN.failure_grace,
            lock_dir="/tmp",
        )

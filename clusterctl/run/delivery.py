"""The working directory comes to all hosts before anything starts there."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from clusterctl.ask.sync import Packed, deliver
from clusterctl.ask.tree import Tree
from clusterctl.errors import ClusterctlError
from clusterctl.plan.model import LaunchPlan, NodePlan
from clusterctl.report.findings import brief
from clusterctl.report.moved import Moved
from clusterctl.report.pull import size
from clusterctl.run.display import Display
from clusterctl.run.links import Broken, Links
from clusterctl.settings import RUN

_AT_ONCE = 16
_LOOK = 0.2


class Delivery:
    """The code to all hosts, some at a time, each by a thread that waits for that host only."""

    def __init__(
        self, plan: LaunchPlan, tree: Tree, links: Links, display: Display, check: Callable[[], None]
    ) -> None:
        self._plan = plan
        self._tree = tree
        self._links = links
        self._display = display
        self._check = check
        self._deadline = time.monotonic() + RUN.sync_timeout
        self._packing = threading.Lock()
        self._packed: Packed | None = None
        self._read: int | None = None
        """Bytes of the tree that are packed, while that goes on."""
        self._sent: dict[str, int] = {}
        """Bytes of the archive, by the hosts that it is on its way to,"""
        self._moved: dict[str, Moved] = {}
        """and how fast."""
        self._todo: queue.SimpleQueue[NodePlan] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[str, bool | Exception]] = queue.SimpleQueue()

    def carry_out(self, in_place: dict[str, bool]) -> None:
        """Complete ``in_place``: whether a host has the same content at its own path. Raises
        ClusterctlError."""
        waiting = {node.host for node in self._plan.nodes if not in_place.get(node.host)}
        for node in self._plan.nodes:
            if node.host in waiting:
                self._todo.put(node)
        for _ in range(min(_AT_ONCE, len(self._plan.nodes))):
            threading.Thread(target=self._work, name="deliver", daemon=True).start()
        try:
            while waiting:
                for event in self._links.poll(_LOOK):
                    if isinstance(event, Broken):
                        raise _broke_off(self._plan.nodes[event.node].host, event.reason)
                while not self._done.empty():
                    host, answer = self._done.get()
                    if isinstance(answer, Exception):
                        raise answer
                    in_place.setdefault(host, answer)
                    waiting.discard(host)
                self._tell(waiting)
                self._check()
        except BaseException:
            # One host's trouble, or Ctrl-C, does not wait for the others' copies. Nothing was started yet.
            while not self._todo.empty():
                self._todo.get()
            for node in self._plan.nodes:
                self._links.drop(node.node_rank)
            raise
        if self._packed is not None:
            self._packed.close()

    def _work(self) -> None:
        while True:
            try:
                node = self._todo.get_nowait()
            except queue.Empty:
                return
            answer: bool | Exception
            try:
                answer = self._deliver(node)
            except (OSError, KeyError) as error:
                answer = _broke_off(node.host, str(error))
            except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
                answer = error
            self._done.put((node.host, answer))
            self._links.wake()

    def _deliver(self, node: NodePlan) -> bool:
        def content() -> Packed:
            packed = self._archive()
            self._sent[node.host] = 0
            return packed

        def count(size: int) -> None:
            self._sent[node.host] += size

        try:
            return deliver(
                self._links.session(node.node_rank),
                self._tree,
                content,
                root=node.workdir or self._tree.root,
                in_place=self._plan.code.in_place,
                deadline=self._deadline,
                on_sent=count,
            )
        finally:
            self._sent.pop(node.host, None)

    def _archive(self) -> Packed:
        with self._packing:
            self._packed = self._packed or Packed(self._tree, self._note_packed)
            self._read = None
            return self._packed

    def _note_packed(self, count: int) -> None:
        self._read = count

    def _tell(self, waiting: set[str]) -> None:
        """What is waited for now; of many copies under way, the one that has come least far."""
        packed, read = self._packed, self._read
        on_way = sorted(self._sent.copy().items(), key=lambda item: item[1])
        if read is not None:
            self._display.awaiting(f"packing the code: {size(read)} of {size(self._tree.size)}")
        elif packed is not None and on_way:
            host, count = on_way[0]
            others = f" and {len(on_way) - 1} more" if len(on_way) > 1 else ""
            if count == packed.size:
                self._display.awaiting(f"waiting for {host}{others} to unpack {size(count)}")
                return
            moved = self._moved.setdefault(host, Moved()).text(count, time.monotonic(), total=packed.size)
            self._display.awaiting(f"copying code to {host}{others}: {moved}")
        elif waiting:
            self._display.awaiting(f"comparing the code with {brief(sorted(waiting))}")


def _broke_off(host: str, why: str) -> ClusterctlError:
    return ClusterctlError(f"{host}: the connection ended before the code was copied: {why}")

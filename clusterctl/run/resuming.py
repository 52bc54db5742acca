"""Before an attempt begins: the hosts look for checkpoints, and agree on the one to go on from."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from clusterctl.errors import ClusterctlError
from clusterctl.messages.orders import FindCheckpoints, Order
from clusterctl.messages.orders import PlaceLatest as Place
from clusterctl.messages.relay import Checkpoints, Failed, Placed, Reply
from clusterctl.plan.model import LaunchPlan, NodePlan
from clusterctl.run.checkpoints import Choice, choose
from clusterctl.run.links import Broken, Heard, LinkEvent, Links
from clusterctl.settings import RUN

_LOOK = 0.2
_SHOWN = 2


class Resuming:
    """Call `carry_out` once, with a session on every host that nobody listens to yet."""

    def __init__(
        self,
        plan: LaunchPlan,
        links: Links,
        *,
        cwd: Callable[[NodePlan], str | None],
        check: Callable[[], None],
        early: list[LinkEvent],
    ) -> None:
        """``cwd`` is that of a node's `Job`; ``check`` raises where the start is to be broken off; ``early``
        gets what hosts say besides."""
        self._plan = plan
        self._links = links
        self._cwd = cwd
        self._check = check
        self._early = early

    def carry_out(self) -> Choice:
        """Raises ClusterctlError where a host cannot say what it has, or cannot write ``latest``."""
        nodes = {node.node_rank: node for node in self._plan.nodes}
        self._links.listen(nodes)
        looks: dict[int, list[Order]] = {
            rank: [
                FindCheckpoints(
                    directory=self._plan.checkpoint_dir,
                    cwd=self._cwd(node),
                    subdirectory=self._plan.code.subdirectory,
                )
            ]
            for rank, node in nodes.items()
        }
        told = self._ask(looks, Checkpoints)
        choice = choose(self._plan, {nodes[rank].host: found[0] for rank, found in told.items()})
        by_host = {node.host: rank for rank, node in nodes.items()}
        places: dict[int, list[Order]] = {}
        for each in choice.latest:
            places.setdefault(by_host[each.host], []).append(Place(directory=each.directory, tag=each.tag))
        self._ask(places, Placed)
        return choice

    def _ask(self, orders: dict[int, list[Order]], kind: type[Any]) -> dict[int, list[Any]]:
        """One answer of this kind to each order."""
        answers: dict[int, list[Any]] = {node: [] for node in orders}
        for node, wanted in orders.items():
            for order in wanted:
                self._links.post(node, order)
        deadline = time.monotonic() + RUN.sync_timeout
        while waiting := [node for node in orders if len(answers[node]) < len(orders[node])]:
            for event in self._links.poll(_LOOK):
                self._take(event, answers, kind)
            self._check()
            if time.monotonic() > deadline:
                names = ", ".join(self._host(node) for node in waiting)
                raise ClusterctlError(f"no word in time about the checkpoints of {names}")
        return answers

    def _take(self, event: LinkEvent, answers: dict[int, list[Any]], kind: type[Any]) -> None:
        if isinstance(event, Broken):
            raise ClusterctlError(f"{self._host(event.node)}: the connection ended: {event.reason}")
        if not isinstance(event, Heard):
            self._early.append(event)
            return
        rest: list[Reply] = []
        for reply in event.replies:
            if isinstance(reply, kind):
                answers[event.node].append(reply)
            elif isinstance(reply, Failed):
                raise ClusterctlError(f"{self._host(event.node)}: checkpoints: {reply.reason}")
            else:
                rest.append(reply)
        self._early.append(Heard(event.node, tuple(rest)))

    def _host(self, node: int) -> str:
        return self._plan.nodes[node].host


def in_words(plan: LaunchPlan, choice: Choice) -> str:
    """For the operator: from where the attempt goes on, and what cannot be used."""
    if choice.tag:
        text = f"goes on from step {choice.step}: {plan.checkpoint_dir}/{choice.tag}"
    else:
        text = f"no whole checkpoint in {plan.checkpoint_dir}: the script begins where it does by itself"
    told = [f"{tag} ({why})" for tag, why in choice.skipped[:_SHOWN]]
    more = len(choice.skipped) - len(told)
    told += [f"{more} more"] if more else []
    return f"{text}; not whole: {', '.join(told)}" if told else text


def variables(choice: Choice, host: str) -> dict[str, str]:
    """What the ranks on ``host`` are told of it."""
    if not choice.tag:
        return {}
    return {"CLUSTERCTL_RESUME_TAG": choice.tag, "CLUSTERCTL_RESUME_DIR": choice.directories[host]}


def as_event(choice: Choice) -> dict[str, Any]:
    """As one line of ``events.jsonl``."""
    skipped = [{"tag": tag, "why": why} for tag, why in choice.skipped]
    about = {"event": "resume", "time": time.time(), "tag": choice.tag, "step": choice.step}
    latest = [msgspec.to_builtins(each) for each in choice.latest]
    return about | {"skipped": skipped, "latest": latest}

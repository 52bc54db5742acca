"""Traffic between hosts: each listens, then each dials the others, all inside the channels already open."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from clusterctl.ask.collector import FactCollector
from clusterctl.facts.model import Dial, Reachability
from clusterctl.network.candidates import candidates
from clusterctl.network.dials import Listener, Order, ephemeral_ports, plan_dials
from clusterctl.settings import ASK


def reach(
    collector: FactCollector, deadline: float, *, everywhere: bool, master_port: int | None, preferred: int
) -> Reachability:
    """Find a free master port on the first host and, with ``everywhere``, let all hosts dial all others.

    ``master_port`` is the user's own choice and must be free; else the first free one from ``preferred`` on.
    """
    hosts = collector.present
    if not hosts:
        return Reachability()
    offered = candidates(hosts)
    first = next(iter(hosts))
    asked = tuple(hosts) if everywhere and len(hosts) > 1 else (first,)
    token = secrets.token_hex(16)
    for host in asked:
        order: dict[str, Any] = {
            "token": token,
            "addresses": [address for _, address in offered[host]] if len(asked) > 1 else [],
            "ephemeral": ephemeral_ports(len(hosts)),
            "range": hosts[host].port_range,
        }
        if host == first:
            order["master"] = {"port": master_port, "preferred": preferred, "tries": ASK.master_ports}
        collector.send(host, {"listen": order})
    listening = collector.wait("listening", asked, min(deadline, time.monotonic() + ASK.listen_timeout))
    opened, errors = _opened(asked, listening, everywhere=len(asked) > 1)
    master = listening.get(first, {})
    port, problem = master.get("master_port"), master.get("master_error")
    dials = _dial(collector, opened, token, deadline) if len(opened) > 1 else ()
    return Reachability(
        dials=dials,
        listen_errors=errors,
        master_port=port if isinstance(port, int) else None,
        master_error=problem if isinstance(problem, str) else "",
        asked=len(asked) > 1,
    )


def _opened(
    asked: tuple[str, ...], listening: Mapping[str, dict[str, Any]], *, everywhere: bool
) -> tuple[dict[str, tuple[Listener, ...]], dict[str, str]]:
    opened: dict[str, tuple[Listener, ...]] = {}
    errors: dict[str, str] = {}
    for host in asked:
        answer = listening.get(host)
        if answer is None:
            errors[host] = "no answer in time"
        elif "error" in answer:
            errors[host] = str(answer["error"])
        elif everywhere:
            try:
                opened[host] = msgspec.convert(answer.get("listeners"), tuple[Listener, ...])
            except msgspec.ValidationError as error:
                errors[host] = f"its answer makes no sense: {error}"
            if host in opened and not opened[host]:
                errors[host] = "it has no address to listen on"
    return opened, errors


def _dial(
    collector: FactCollector, opened: Mapping[str, tuple[Listener, ...]], token: str, deadline: float
) -> tuple[Dial, ...]:
    limit = min(deadline, time.monotonic() + ASK.traffic_timeout)
    plan = plan_dials(opened)
    for host, orders in plan.items():
        order = {
            "token": token,
            "dials": [[each.address, each.port, each.bulk] for each in orders],
            "timeout": ASK.dial_timeout,
            "tries": ASK.dial_tries,
            "seconds": max(1.0, limit - time.monotonic() - 2.0),
        }
        collector.send(host, {"dial": order})
    told = collector.wait("dialled", tuple(plan), limit)
    return tuple(dial for host, answer in told.items() for dial in _dials(host, plan[host], answer))


class _Result(msgspec.Struct, frozen=True, array_like=True):
    """One row of a node's answer; ``order`` counts from 0 in what it was told to dial."""

    order: int
    result: str
    seconds: float
    seen: str
    device: str
    detail: str


def _dials(host: str, orders: tuple[Order, ...], answer: dict[str, Any]) -> tuple[Dial, ...]:
    try:
        results = msgspec.convert(answer.get("results"), tuple[_Result, ...])
    except msgspec.ValidationError:
        return ()
    return tuple(
        Dial(
            source=host,
            target=orders[each.order].target,
            address=orders[each.order].address,
            port=orders[each.order].port,
            kind=orders[each.order].kind,
            result=each.result,
            seconds=each.seconds,
            seen=each.seen,
            device=each.device,
            detail=each.detail,
        )
        for each in results
        if 0 <= each.order < len(orders)
    )

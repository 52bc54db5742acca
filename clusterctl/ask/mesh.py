"""Traffic between hosts: each listens, then each dials the others, all inside the channels already open."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping

from clusterctl.ask.collector import FactCollector
from clusterctl.facts.model import Dial, Reachability
from clusterctl.messages.examination import DialAll, Dialled, Listen, Listening, MasterPort
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
        master = MasterPort(port=master_port, preferred=preferred, tries=ASK.master_ports)
        order = Listen(
            token=token,
            addresses=tuple(address for _, address in offered[host]) if len(asked) > 1 else (),
            ephemeral=ephemeral_ports(len(hosts)),
            port_range=hosts[host].port_range,
            master=master if host == first else None,
        )
        collector.send(host, order)
    listening = collector.wait(Listening, asked, min(deadline, time.monotonic() + ASK.listen_timeout))
    opened, errors = _opened(asked, listening, everywhere=len(asked) > 1)
    found = listening.get(first, Listening())
    dials = _dial(collector, opened, deadline) if len(opened) > 1 else ()
    return Reachability(
        dials=dials,
        listen_errors=errors,
        master_port=found.master_port,
        master_error=found.master_error,
        asked=len(asked) > 1,
    )


def _opened(
    asked: tuple[str, ...], listening: Mapping[str, Listening], *, everywhere: bool
) -> tuple[dict[str, tuple[Listener, ...]], dict[str, str]]:
    opened: dict[str, tuple[Listener, ...]] = {}
    errors: dict[str, str] = {}
    for host in asked:
        answer = listening.get(host)
        if answer is None:
            errors[host] = "no answer in time"
        elif answer.error:
            errors[host] = answer.error
        elif everywhere:
            opened[host] = tuple(Listener(each.address, each.port, each.kind) for each in answer.listeners)
            if not opened[host]:
                errors[host] = "it has no address to listen on"
    return opened, errors


def _dial(
    collector: FactCollector, opened: Mapping[str, tuple[Listener, ...]], deadline: float
) -> tuple[Dial, ...]:
    deadline = min(deadline, time.monotonic() + ASK.traffic_timeout)
    plan = plan_dials(opened)
    for host, orders in plan.items():
        asked = DialAll(
            dials=tuple((each.address, each.port, each.bulk) for each in orders),
            dial_timeout=ASK.dial_timeout,
            tries=ASK.dial_tries,
            timeout=max(1.0, deadline - time.monotonic() - 2.0),
        )
        collector.send(host, asked)
    told = collector.wait(Dialled, tuple(plan), deadline)
    return tuple(dial for host, answer in told.items() for dial in _dials(host, plan[host], answer))


def _dials(host: str, orders: tuple[Order, ...], answer: Dialled) -> tuple[Dial, ...]:
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
        for each in answer.results
        if each.order < len(orders)
    )

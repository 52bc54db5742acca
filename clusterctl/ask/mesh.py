"""Traffic between hosts: each listens, then each visits the others, all inside the channels already open."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import msgspec

from clusterctl.ask.collector import FactCollector
from clusterctl.ask.dialling import Dialling
from clusterctl.facts.model import Dial, Reachability
from clusterctl.messages.examination import Listen, Listening, MasterPort
from clusterctl.network.candidates import candidates
from clusterctl.network.dials import Listener, ephemeral_ports, is_sampled
from clusterctl.settings import ASK


class Reached:
    """What is known of the traffic between hosts, which can be added to as long as their sessions last."""

    def __init__(self, reachability: Reachability, dialling: Dialling | None = None) -> None:
        self.reachability = reachability
        self._dialling = dialling

    def measure_again(self, addresses: Mapping[str, str]) -> None:
        """What seems slow or lossy between these addresses, each a host's, alone."""
        if self._dialling is not None and self.reachability.asked:
            self._dialling.measure_again(addresses)
            self.reachability = msgspec.structs.replace(self.reachability, dials=self._dialling.dials)

    def with_dials(self, dials: tuple[Dial, ...]) -> Reachability:
        """All that is known, and these."""
        return msgspec.structs.replace(self.reachability, dials=self.reachability.dials + dials)


def reach(
    collector: FactCollector,
    *,
    everywhere: bool,
    all_pairs: bool,
    master_port: int | None,
    preferred: int,
) -> Reached:
    """Find a free master port on the first host and, with ``everywhere``, let the hosts dial one another.

    ``master_port`` is the user's own choice and must be free; else the first free one from ``preferred`` on.
    Nobody dials before all listeners are confirmed. What failed is dialled again, alone, before it counts.
    """
    hosts = collector.present
    if not hosts:
        return Reached(Reachability())
    offered = candidates(hosts)
    first = next(iter(hosts))
    asked = tuple(hosts) if everywhere and len(hosts) > 1 else (first,)
    token = secrets.token_hex(16)
    master = MasterPort(port=master_port, preferred=preferred, tries=ASK.master_ports)
    listening = collector.ask(
        Listening,
        {
            host: Listen(
                token=token,
                rank=rank,
                addresses=tuple(address for _, address in offered[host]) if len(asked) > 1 else (),
                ephemeral=ephemeral_ports(len(hosts)),
                port_range=hosts[host].port_range,
                master=master if host == first else None,
            )
            for rank, host in enumerate(asked)
        },
        ASK.listen_timeout,
    )
    opened, errors = _opened(asked, listening, everywhere=len(asked) > 1)
    found = listening.get(first, Listening())
    dialling = Dialling(collector, asked, opened, hosts, all_pairs=all_pairs)
    if len(opened) > 1:
        dialling.visit_all()
        dialling.repeat()
    reachability = Reachability(
        dials=tuple(dialling.dials),
        listen_errors=errors,
        neighbours=dialling.neighbours,
        sampled=len(opened) > 1 and is_sampled(len(opened), all_pairs=all_pairs),
        master_port=found.master_port,
        master_error=found.master_error,
        asked=len(asked) > 1,
    )
    return Reached(reachability, dialling)


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

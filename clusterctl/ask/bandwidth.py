"""A tournament of plain TCP between hosts: disjoint pairs, one direction at a time, suspects twice."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping

from clusterctl.ask.collector import FactCollector
from clusterctl.facts.e2e import Bandwidth, Transfer
from clusterctl.messages.proving import Receive, Receiving, Send, Sent
from clusterctl.network import bandwidth
from clusterctl.network.tournament import Pair, rounds, second_pass
from clusterctl.settings import PROOF


def measure(collector: FactCollector, addresses: Mapping[str, str]) -> Bandwidth:
    """``addresses`` are those of the chosen network, by host."""
    if len(addresses) < 2:
        return Bandwidth(skipped="one host")
    token = secrets.token_hex(16)
    answers = collector.ask(
        Receiving,
        {host: Receive(address=address, token=token) for host, address in addresses.items()},
        PROOF.tell_timeout,
    )
    ports = {host: answer.port for host, answer in answers.items() if answer.port}
    told = _Transfers(collector, addresses, ports, token)
    found = [transfer for pairs in rounds(tuple(ports)) for transfer in told.of(pairs)]
    sick = {each.host for each in bandwidth.slow(bandwidth.capacities(found))}
    well = tuple(host for host in ports if host not in sick)
    for pairs in second_pass(tuple(host for host in ports if host in sick), well):
        found += told.of(pairs)
    errors = {host: answer.error for host, answer in answers.items() if answer.error}
    errors |= {host: "it did not open a port" for host in addresses if host not in answers}
    return Bandwidth(transfers=tuple(found), errors=errors)


class _Transfers:
    def __init__(
        self,
        collector: FactCollector,
        addresses: Mapping[str, str],
        ports: Mapping[str, int],
        token: str,
    ) -> None:
        self._collector = collector
        self._addresses = addresses
        self._ports = ports
        self._token = token

    def of(self, pairs: Iterable[Pair]) -> list[Transfer]:
        """Both directions of each pair, one after the other; the pairs side by side."""
        there = list(pairs)
        back = [(target, source) for source, target in there]
        return [transfer for way in (there, back) for transfer in self._one_way(way)]

    def _one_way(self, way: Iterable[Pair]) -> Iterable[Transfer]:
        targets = dict(way)
        orders = {
            source: Send(
                address=self._addresses[target],
                port=self._ports[target],
                token=self._token,
                seconds=PROOF.transfer,
                streams=PROOF.streams,
                timeout=PROOF.connect_timeout,
            )
            for source, target in targets.items()
        }
        told = self._collector.ask(Sent, orders, PROOF.tell_timeout)
        for source, target in targets.items():
            sent = told.get(source, Sent(error="it did not tell"))
            yield Transfer(
                source=source,
                target=target,
                rate=sent.rate,
                busy=sent.busy,
                receiver=sent.receiver,
                buffer=sent.buffer,
                cpu=sent.cpu,
                idle=sent.idle,
                error=sent.error,
            )

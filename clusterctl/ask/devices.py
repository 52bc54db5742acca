"""Idle GPUs at work, on all hosts side by side."""

from __future__ import annotations

from collections.abc import Mapping

from clusterctl.ask.collector import FactCollector
from clusterctl.facts import dcgm
from clusterctl.facts.dcgm import Dcgm
from clusterctl.facts.e2e import Device
from clusterctl.messages.proving import AskDcgm, Compute, Computed, DcgmTold
from clusterctl.plan.group import Group
from clusterctl.settings import PROOF

MATRIX, SMALL_MATRIX = 8192, 512


def compute(
    collector: FactCollector, group: Group, devices: Mapping[str, tuple[str, ...]]
) -> tuple[Device, ...]:
    orders = {
        member.host: Compute(
            python=member.variables.python,
            env=member.variables.env,
            removed=member.variables.removed,
            devices=devices[member.host],
            size=MATRIX if devices[member.host][0].startswith("cuda") else SMALL_MATRIX,
            timeout=PROOF.device_timeout,
        )
        for member in group.members
    }
    told = collector.ask(Computed, orders, PROOF.device_timeout + PROOF.tell_timeout)
    found = []
    for host, order in orders.items():
        answer = told.get(host, Computed(error="the host did not tell"))
        known = {each.device: each for each in answer.devices}
        for device in order.devices:
            news = known.get(device)
            if news is None:
                found.append(Device(host=host, device=device, unknown=answer.error or "it was not told"))
                continue
            late = f"it did not end within {PROOF.device_timeout:.0f} s" if news.late else ""
            found.append(
                Device(
                    host=host,
                    device=device,
                    stage=news.stage,
                    flops=news.flops,
                    error=news.error,
                    ended=news.ended,
                    unknown=late,
                )
            )
    return tuple(found)


def diagnose(collector: FactCollector, group: Group) -> dict[str, Dcgm]:
    """What dcgmi says, where it is installed."""
    orders = {member.host: AskDcgm(timeout=PROOF.dcgm_timeout) for member in group.members}
    told = collector.ask(DcgmTold, orders, PROOF.dcgm_timeout + PROOF.tell_timeout)
    found = {}
    for host in orders:
        answer = told.get(host, DcgmTold(present=True, error="the host did not tell"))
        if answer.late or answer.error or not answer.present:
            why = f"dcgmi did not end within {PROOF.dcgm_timeout:.0f} s" if answer.late else answer.error
            found[host] = Dcgm(present=answer.present, error=why)
        else:
            found[host] = dcgm.parse(answer.text)
    return found

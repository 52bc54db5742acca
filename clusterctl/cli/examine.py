"""Ask every host, choose the network, judge: one examination of a cluster, for every verb that needs one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

import msgspec

from clusterctl.ask.facts import Answers, FactsRequest, ask
from clusterctl.checks.evaluate import Report, evaluate
from clusterctl.cli.hosts import Hosts
from clusterctl.cli.progress import Asking
from clusterctl.errors import UsageError
from clusterctl.network.choose import choose
from clusterctl.network.model import Network
from clusterctl.plan.profile import Profile
from clusterctl.plan.variables import from_options
from clusterctl.transport import Transport


class Examination(msgspec.Struct, frozen=True):
    """What the hosts answered, the network they get, and the judgement."""

    answers: Answers
    network: Network
    report: Report


def examine(
    hosts: Hosts,
    transport: Transport,
    *,
    wanted: Profile,
    env: Iterable[str],
    quick: bool = False,
    torch: bool = True,
    then_more: bool = False,
    workdir: Path | None = None,
) -> Examination:
    """Everything there is to know about ``hosts``. A sick host is in the report, never an exception.

    ``quick`` asks for facts only; without ``torch`` traffic is sent, but torch is not imported.
    ``then_more``: a run follows over the same transport.
    ``env`` are ``K=V`` and ``K`` as typed. Raises UsageError for a profile or variable that cannot be used.
    """
    names = hosts.inventory.names
    typed = {setting.name: setting.value for setting in from_options(env, os.environ)}
    user_env = {**wanted.env, **typed}
    host_env = {host: {**wanted.env_of(host), **typed} for host in names}
    master = user_env.get("MASTER_ADDR", "")
    request = FactsRequest(
        quick=quick,
        python={host: python for host in names if (python := wanted.python_of(host))},
        env=host_env,
        activate={host: line for host in names if (line := wanted.activate_of(host))},
        names=(master,) if master and not _is_address(master) else (),
        torch=torch,
        then_more=then_more,
        workdir=str(workdir or Path.cwd()),
        workdirs={host: own for host in names if (own := wanted.workdir_of(host))},
        master_port=_port(user_env.get("MASTER_PORT", "")),
    )
    traffic = "sending traffic between the hosts"
    then = "all answered" if quick else f"importing torch, {traffic}" if torch else traffic
    with Asking(names, then) as asking:
        answers = ask(transport, hosts.inventory, request, on_progress=asking.answered)
    network = choose(
        hosts.inventory,
        answers.facts,
        answers.reachability,
        user_env=user_env,
        host_env=host_env,
        pins=wanted.pins(answers.facts),
    )
    report = evaluate(
        hosts.inventory,
        answers.facts,
        answers.failures.values(),
        answers.reachability,
        network,
        expect=wanted.expect,
        user_env=user_env,
        quick=quick or not torch,
        simulated=hosts.simulated,
    )
    return Examination(answers, network, report)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _port(text: str) -> int | None:
    if not text:
        return None
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise UsageError(f"MASTER_PORT={text} is no port", hint="--env MASTER_PORT=29500")
    return int(text)

"""Doctor's page: what is wrong, which hosts these are, who reached whom, what differs. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from clusterctl.checks.evaluate import Report
from clusterctl.facts.model import Facts, Reachability
from clusterctl.inventory.model import Inventory
from clusterctl.network.model import Network
from clusterctl.report.doctor import ready_words
from clusterctl.report.findings import brief
from clusterctl.report.hosts import software
from clusterctl.report.html.matrix import MOST, counted, matrix
from clusterctl.report.html.pages import page

_WORDS = {"ready": "ready to train", "not-ready": "not ready", "unknown": "not known to be ready"}
_NAMES = ("GPU", "CPU", "driver", "python", "torch", "NCCL")


def doctor_page(
    inventory: Inventory,
    facts: Mapping[str, Facts],
    network: Network,
    report: Report,
    reachability: Reachability,
    *,
    how: str,
    launch: str,
) -> str:
    """``how``: which hosts these are; ``launch``: what to type when they are ready."""
    has = {host: software(told) for host, told in facts.items()}
    columns = [name for name in _NAMES if any(each.get(name) for each in has.values())]
    counted_words, after, command = ready_words(inventory, report, launch)
    return page(
        "doctor.html",
        title=_WORDS[report.verdict],
        verdict=report.verdict,
        how=how,
        counted=counted_words,
        next=after,
        command=command,
        report=report,
        problems=[each for each in report.findings if each.severity != "info"],
        notes=[each for each in report.findings if each.severity == "info"],
        entries=inventory.hosts,
        has=has,
        columns=columns,
        network=network,
        differing=_differing(has, columns),
        pairs=counted(inventory.names, reachability.dials) if reachability.asked else None,
        matrix=matrix(inventory.names, reachability.dials) if reachability.asked else None,
        brief=brief,
        most_pairs=MOST,
        passed=sum(check.status == "pass" for check in report.checks),
    )


def _differing(
    has: Mapping[str, Mapping[str, str]], columns: list[str]
) -> list[tuple[str, dict[str, list[str]]]]:
    """(what, value -> hosts), for what hosts do not have alike; the most frequent value first."""
    found = []
    for name in columns:
        values: dict[str, list[str]] = {}
        for host, each in has.items():
            values.setdefault(each.get(name, ""), []).append(host)
        if len(values) > 1:
            found.append((name, dict(sorted(values.items(), key=lambda item: -len(item[1])))))
    return found

"""Real hosts for a row: they are built, altered, and asked by `clusterctl doctor` as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clusterctl.sandbox import Sandbox
from tests.faults.clusters import ClusterRow, with_own_kernel_log
from tests.faults.hosts import group
from tests.faults.outcome import Outcome, Pair, pairs

ROOT = Path(__file__).parents[2]
PATIENCE = 900.0
Make = Callable[..., Sandbox]


class NoReport(Exception):
    """Doctor itself broke: what it said."""


def clusterctl(box: Sandbox, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLUSTERCTL_")}
    environment |= {
        "CLUSTERCTL_HOME": os.environ["CLUSTERCTL_HOME"],
        "CLUSTERCTL_SSH_CONFIG": str(box.ssh_config),
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, "-c", "from clusterctl.cli.main import entry; entry()", *argv],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=environment,
    )


def doctor(box: Sandbox, *options: str) -> dict[str, Any]:
    """The JSON report."""
    done = clusterctl(box, "doctor", str(box.hostfile), "--json", *options)
    if not done.stdout:
        raise NoReport(" ".join(done.stderr.split())[:200])
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def found_in(report: Mapping[str, Any]) -> frozenset[Pair]:
    return frozenset(
        (finding["code"], host)
        for finding in report["findings"]
        if finding["severity"] != "info"
        for host in finding["hosts"] or ("(none)",)
    )


def build(row: ClusterRow, make: Make) -> Sandbox:
    specs = [machine.spec(name) for name, machine in row.machines.items()]
    box = make(hosts=with_own_kernel_log(specs))
    for name, machine in row.machines.items():
        for change in machine.every_change:
            change(box.host(name))
    if row.hostfile:
        box.hostfile.write_text(row.hostfile(box), encoding="utf-8")
    if row.ssh_config:
        given = box.ssh_config.read_text(encoding="utf-8")
        box.ssh_config.write_text(row.ssh_config(box) + given, encoding="utf-8")
    return box


def outcomes(row: ClusterRow, make: Make) -> Iterator[Outcome]:
    """One for each row of the cluster, with what concerns its host, and one for what is left."""
    box = build(row, make)
    try:
        found = found_in(doctor(box, *row.options))
    except NoReport as error:
        found = frozenset((f"no report: {error}", host) for host in row.machines)
    finally:
        box.down()
    yield from compared(row, found)


def compared(row: ClusterRow, found: frozenset[Pair]) -> Iterator[Outcome]:
    name = group(row)
    for part in row.rows:
        wanted = pairs(dict.fromkeys(part.codes.split(), part.host))
        yield Outcome(name, part.name, wanted, frozenset(pair for pair in found if pair[1] == part.host))
    if row.rows:
        named = {part.host for part in row.rows}
        rest = frozenset(pair for pair in found if pair[1] not in named)
        yield Outcome(name, "the healthy hosts beside them", frozenset(), rest)
    else:
        yield Outcome(name, row.name, pairs(row.expected), found)

"""The fault matrix as a table: `python -m tests.faults [--real] [--busy] [--only WORDS] [--write]`

Without options the rows made of facts: seconds. ``--real`` those on hosts made on this machine as well: ten
minutes on two cores. ``--busy`` with all cores taken meanwhile. ``--write`` keeps the tables in
docs/reliability.md. Exit code 1 if anything was missed or wrongly said.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from clusterctl.sandbox import HostSpec, Sandbox
from tests.busy import BUSY, all_cores_busy
from tests.faults import facts, hosts, page, real
from tests.faults.outcome import Outcome, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--real", action="store_true", help="on real hosts, too")
    parser.add_argument("--busy", action="store_true", help=f"with {BUSY} processes that take all cores")
    parser.add_argument(
        "--only",
        default="",
        metavar="WORDS",
        help="rows whose group or name has one of these, which commas part",
    )
    parser.add_argument("--pairs", type=int, default=500, help="pairs of faults to draw; 0 for all")
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/reliability.md")
    options = parser.parse_args()
    with all_cores_busy() if options.busy else contextlib.nullcontext():
        told = list(_shown(facts.outcomes(options.pairs), options.only))
        seen = list(_shown(_on_hosts(options.only), "")) if options.real else []
    for title, outcomes in (("Facts", told), ("Real hosts", seen)):
        if outcomes:
            print("\n".join([f"\n{title}\n", *table(outcomes)]))
    if options.write:
        page.keep([] if options.only else told, seen, busy=options.busy)
    return int(any(not each.right for each in (*told, *seen)))


def _shown(outcomes: Iterator[Outcome], only: str) -> Iterator[Outcome]:
    """Those that have ``only`` in them; what is not right is told at once."""
    for outcome in outcomes:
        if _meant(only, outcome.group, outcome.name):
            if not outcome.right:
                print(outcome, file=sys.stderr, flush=True)
            yield outcome


def _meant(only: str, *names: str) -> bool:
    return any(word in name for word in only.split(",") for name in names)


def _on_hosts(only: str) -> Iterator[Outcome]:
    home = Path(tempfile.mkdtemp(prefix="cctl-"))  # a short path: sockets lie in it
    cache = Path.home() / ".clusterctl/sandbox/.cache/openssh"
    (home / "sandbox/.cache").mkdir(mode=0o700, parents=True)
    if cache.exists():
        (home / "sandbox/.cache/openssh").symlink_to(cache)
    os.environ["CLUSTERCTL_HOME"] = str(home)
    numbers = count(1)

    def make(hosts: list[HostSpec]) -> Sandbox:
        return Sandbox.create(f"faults{next(numbers)}", hosts)

    wanted = [
        row
        for row in hosts.EVERY
        if _meant(only, row.name, hosts.group(row), *(part.name for part in row.rows))
    ]
    try:
        for row in wanted:
            print(f"{row.name}: {len(row.machines)} hosts", file=sys.stderr, flush=True)
            yield from real.outcomes(row, make)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

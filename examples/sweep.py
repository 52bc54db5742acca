"""A sweep over learning rates: one run after the other on all hosts, then a table of what came out.

    python examples/sweep.py [HOSTFILE]

Without a hostfile two virtual hosts are brought up on this machine.
"""

from __future__ import annotations

import re
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from clusterctl import Cluster, LaunchOptions

HERE = Path(__file__).parent
LOSS = re.compile(r"^final loss (\S+)$", re.MULTILINE)


def hosts(words: list[str]) -> AbstractContextManager[Cluster]:
    if words:
        return nullcontext(Cluster.from_hostfile(words[0]))
    return Cluster.sandbox(nodes=2)


def main(words: list[str]) -> int:
    results: dict[float, str] = {}
    # The directory with the script travels, nothing else; no try is worth more than ten minutes.
    options = LaunchOptions(workdir=str(HERE), time_limit=600)
    with hosts(words) as cluster:
        for rate in (0.01, 0.1, 1.9, 2.1):
            with cluster.launch("fit_line.py", ["--lr", rate], options=options) as run:
                outcome = run.wait()
            if outcome.status == "succeeded":
                found = LOSS.search(run.logs(rank=0))
                results[rate] = found[1] if found else "no loss in the log"
            else:
                assert outcome.cause is not None
                results[rate] = f"{outcome.status}: {outcome.cause.message} ({run.path / outcome.cause.log})"
    for rate, result in results.items():
        print(f"lr {rate:<5} {result}")
    return 0 if any(result[0].isdigit() for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

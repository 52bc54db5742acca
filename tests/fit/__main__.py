"""``python -m tests.fit [--write]``: the table of agreement, for docs/fit.md."""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from pathlib import Path

from tests.fit.cases import CASES
from tests.fit.measuring import Row, measure

PAGE = Path(__file__).parents[2] / "docs" / "fit.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def table(rows: list[Row]) -> str:
    lines = [
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, DeepSpeed {version('deepspeed')}, torch "
        f"{version('torch')}, transformers {version('transformers')}, gloo on CPU cores; MB on one rank:",
        "",
        "| model | strategy | ranks | precision | batch "
        "| states: said | counted | off | peak: said | counted | off | sent: said | counted | off |",
        "|---|---|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        case, job = row.case, row.case.job
        batch = f"{job.micro_batch} x {job.sequence}"
        batch += f", gas {job.accumulation}" if job.accumulation > 1 else ""
        batch += ", checkpointed" if job.checkpointing else ""
        batch += f", {job.method}" if job.method != "full" else ""
        cells = [case.model, case.strategy, str(case.ranks), job.precision, batch]
        for said, counted, off in (
            (row.states, row.states_counted, row.off_states),
            (row.peak, row.peak_counted, row.off_peak),
            (row.sent, row.sent_counted, row.off_sent),
        ):
            cells += [f"{said / 1e6:.2f}", f"{counted / 1e6:.2f}", f"{off:+.1%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    rows = []
    for ranks in sorted({case.ranks for case in CASES}):
        rows += measure([case for case in CASES if case.ranks == ranks])
    text = table(rows)
    print(text)
    if "--write" in sys.argv[1:]:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()

"""`python bench/strategies.py RECORD`: table and plots of docs/choosing-a-strategy.md, from a record that
`clusterctl compare --json RECORD` wrote."""

from __future__ import annotations

import sys
from pathlib import Path

from clusterctl.advise.compare.judge import judge
from clusterctl.advise.compare.model import Comparison
from clusterctl.report import compare as text
from clusterctl.report.html import compare as drawn
from clusterctl.report.html.pages import picture_file
from clusterctl.session.compare import read

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "choosing-a-strategy.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
SHOWN = {
    "memory": "Memory of a rank by kind; the dashed line is the peak",
    "rate": "Tokens per second of one rank, with the middle half of the steps",
    "wire": "Bytes that a host sends in a step; the dashed line is what `fit` says",
    "loss": "Losses; earlier strategies are drawn wider",
}


def measured(record: Comparison) -> str:
    """The section, and its pictures beside the page."""
    judged = judge(record)
    unit, name = text.memory_unit(judged.rows)
    date = f"{record.id[:4]}-{record.id[4:6]}-{record.id[6:8]}"
    what, where = text.question(record).split("\n")
    lines = [
        f"## Measured on {date}",
        "",
        f"`{what}`, {where}; gloo. Virtual hosts on the CPU cores of one machine: "
        "bytes and losses are exact, speeds are those of this machine on that day and of no GPU.",
        "",
        *(f"- {said}" for said in judged.cautions),
        "",
        f"| {name} of a rank | weights | gradients | optimizer | activations | peak "
        "| tokens/s | step | sent | said |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in judged.rows:
        cells = [row.strategy, *text.memory_cells(row, unit), text.number(row.rate, "")]
        cells += [text.step_time(row.seconds), text.size(row.sent), text.size(row.said_sent)]
        lines.append(f"| {' | '.join(cells)} |")
    said = text.verdict(judged.parity)
    lines += ["", f"{said[:1].upper()}{said[1:]}.", "", "What it recommends:", ""]
    lines += [f"- {reason}" for reason in judged.reasons]
    for chart, picture in drawn.charts(record, judged).items():
        file = f"strategies-{chart}.svg"
        (DOCS / file).write_text(picture_file(picture), encoding="utf-8")
        lines += ["", f"![{SHOWN[chart]}]({file})", "", f"*{SHOWN[chart]}.*"]
    return "\n".join(lines)


def main() -> None:
    found = measured(read(Path(sys.argv[1])))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{found}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()

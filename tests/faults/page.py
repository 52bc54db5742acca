"""docs/reliability.md: the tables as they were measured."""

from __future__ import annotations

import datetime
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.faults.outcome import Outcome, table

PAGE = Path(__file__).parents[2] / "docs/reliability.md"
KEPT = Path(__file__).parents[2] / "build/faults"
"""What was measured here, row by row; not part of the repository."""
FACTS, IDLE, BUSY = "facts", "real hosts", "real hosts, all cores busy"


def keep(told: Sequence[Outcome], seen: Sequence[Outcome], *, busy: bool) -> None:
    """Put the tables in their places; what was not measured now stays as it is."""
    text = PAGE.read_text(encoding="utf-8")
    if told and not busy:
        text = with_section(text, FACTS, table(told))
    if seen:
        name = BUSY if busy else IDLE
        every = joined(name, seen)
        text = with_section(text, name, [measured(), "", *table(every), "", *wrong(every)])
    PAGE.write_text(text, encoding="utf-8")


def joined(name: str, seen: Sequence[Outcome]) -> list[Outcome]:
    """``seen`` with the rows that an earlier run on this machine has measured and this one has not."""
    kept = KEPT / f"{name}.json"
    before = msgspec.json.decode(kept.read_bytes(), type=list[Outcome]) if kept.exists() else []
    rows = {(each.group, each.name): each for each in (*before, *seen)}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(msgspec.json.encode(list(rows.values())))
    return list(rows.values())


def with_section(text: str, name: str, lines: Sequence[str]) -> str:
    begin, end = f"<!-- measured: {name} -->", "<!-- end -->"
    found = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not found.search(text):
        raise ValueError(f"{PAGE} has no place for {name!r}")
    body = "\n".join([begin, "", *lines, "", end])
    return found.sub(lambda _: re.sub(r"\n{3,}", "\n\n", body), text)


def section(text: str, name: str) -> str:
    return text.partition(f"<!-- measured: {name} -->")[2].partition("<!-- end -->")[0]


def counts(text: str, name: str) -> dict[str, tuple[int, int]]:
    """Group -> faults and healthy rows, as the page has them."""
    rows = [line.strip("|").split("|") for line in section(text, name).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows[1:] if "**" not in row[0]]
    return {row[0]: (int(row[1] or 0), int(row[6] or 0)) for row in cells}


def measured() -> str:
    day = datetime.datetime.now(datetime.timezone.utc).date()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"Measured {day} on {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}."
    )


def wrong(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each row that was not right."""
    return [f"- {each}" for each in outcomes if not each.right]

"""The table of docs/launching.md that says what each engine can do, as a value."""

from __future__ import annotations

import re
from pathlib import Path

STARTS = ("torchrun", "deepspeed-pdsh", "deepspeed-no-ssh")
_PAGE = Path(__file__).parents[1] / "docs" / "launching.md"


def read() -> dict[str, dict[str, str]]:
    """What a row says of each way to start, without marks."""
    text = _PAGE.read_text().partition("| | torchrun |")[2].partition("\n\n")[0]
    rows = [re.findall(r"[^|]+", line) for line in text.splitlines()[2:]]
    plain = [[cell.strip().replace("`", "") for cell in row] for row in rows]
    return {row[0]: dict(zip(STARTS, row[1:], strict=True)) for row in plain}


def names(cell: str) -> tuple[str, ...]:
    """The variables in a cell."""
    return tuple(cell.split(", "))

"""What a campaign gave, round by round, and its table in docs/reliability.md."""

from __future__ import annotations

import datetime
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec

from tests.faults.page import PAGE, measured, with_section

NAME = "launch under faults"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """``engine``: the one of its launch. ``trouble`` is empty where all held. ``commit``: what was tried, and
    ``day``: when."""

    seed: int
    kind: str
    engine: str
    seconds: float
    trouble: str = ""
    commit: str = ""
    day: str = ""


def append(path: Path, result: Result) -> None:
    with path.open("ab") as stream:  # one write each: lanes share the file
        stream.write(msgspec.json.encode(result) + b"\n")


def read(path: Path) -> list[Result]:
    lines = path.read_bytes().splitlines() if path.exists() else []
    return sorted((msgspec.json.decode(line, type=Result) for line in lines), key=lambda each: each.seed)


def table(results: Sequence[Result]) -> list[str]:
    """Markdown: a line for each kind, then a sum, then each round that broke."""
    kinds: dict[str, list[Result]] = {}
    for each in sorted(results, key=lambda each: each.kind):
        kinds.setdefault(each.kind, []).append(each)
    lines = [
        "| fault | rounds | all held | stand-in | torchrun | deepspeed | seconds | seeds |",
        "|-|-|-|-|-|-|-|-|",
    ]
    lines += [_line(kind, those, spans([each.seed for each in those])) for kind, those in kinds.items()]
    if len(kinds) > 1:
        lines.append(_line("**all**", results, ""))
    broken = [each for each in results if each.trouble]
    lines += ["", *(f"- {_name(each)}: {_first_line(each.trouble)}" for each in broken)]
    return lines


def write(results: Sequence[Result]) -> None:
    lines = [measured(), "", *days(results), "", *table(results)]
    PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), NAME, lines), encoding="utf-8")


def days(results: Sequence[Result]) -> list[str]:
    """A line for each day: how many rounds, how many of them held, and of which commits."""
    lines = []
    for day in sorted({each.day for each in results}):
        those = [each for each in results if each.day == day]
        held = sum(not each.trouble for each in those)
        rounds = Counter(each.commit for each in those)
        commits = ", ".join(f"{count} of {commit}" for commit, count in rounds.items())
        lines.append(f"- {day or 'some day'}: {len(those):,} rounds, {held:,} held ({commits})")
    return lines


def commit() -> str:
    argv = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def today() -> str:
    return str(datetime.datetime.now(datetime.timezone.utc).date())


def spans(numbers: Sequence[int]) -> str:
    """``1-3, 7``."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def _name(each: Result) -> str:
    return f"seed {each.seed}, {each.kind}" + (f", {each.commit}" if each.commit else "")


def _line(kind: str, those: Sequence[Result], seeds: str) -> str:
    engines = [
        sum(each.engine == name for each in those) or "" for name in ("stand-in", "torchrun", "deepspeed")
    ]
    held = sum(not each.trouble for each in those)
    seconds = f"{median(each.seconds for each in those):.0f}"
    return f"| {' | '.join(map(str, (kind, len(those), held, *engines, seconds, seeds)))} |"


def _first_line(text: str) -> str:
    return (
        text.strip()
        .splitlines()[-1 if text.startswith("the campaign itself") else 0][:300]
        .replace("|", "\\|")
    )

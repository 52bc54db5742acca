"""Conversations to learn from: read from files in the shapes that people have, or from the hub.

A row is one of (more columns are ignored, `system` may stand beside the first two, capitals do not matter):

    {"prompt": ..., "response": ...}                        also "question", "query"; "answer", "completion"
    {"instruction": ..., "input": ..., "output": ...}       also "context"; it may be missing or empty
    {"messages": [{"role": "user", "content": ...}, ...]}   also "conversations" with "from" and "value"
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import UserError, first_line

Message = dict[str, str]
LINES = (".jsonl", ".ndjson")
TABLES = {".csv": ",", ".tsv": "\t"}
QUESTIONS = ("prompt", "instruction", "question", "query", "input")
ANSWERS = ("response", "completion", "output", "answer")
ADDED = ("input", "context")
"""Columns whose text follows the question; a prompt is whole."""
BINARY = {".parquet": "parquet", ".arrow": "arrow"}
ROLES = ("system", "user", "assistant", "tool")
OTHER_NAMES = {"human": "user", "gpt": "assistant", "bot": "assistant"}
SHAPES = "prompt + response, instruction + output (input), or messages"
# A field of a CSV file may be a whole book; the module's own bound is 128 KiB.
MOST_FIELD = 1 << 30


@dataclass(frozen=True)
class Conversation:
    """`messages` end with an answer of the assistant. `where` names the line it came from, for people."""

    messages: tuple[Message, ...]
    where: str


class _BadRow(Exception):
    """What is wrong with one row; stands in its place, so that the first one is named, of whatever kind."""


def read(what: str) -> list[Conversation]:
    """All conversations of a file, a directory of such files, or a hub's data set (`NAME` or `NAME:SPLIT`).

    Raises UserError that names file and line of the first bad row, and how many more there are.
    """
    found: list[Conversation] = []
    problems: list[str] = []
    for where, row in _rows(what):
        try:
            found.append(Conversation(tuple(_messages(row)), where))
        except _BadRow as problem:
            problems.append(f"{where}: {problem}")
    if problems:
        more = f" (bad rows in all: {len(problems):,})" if problems[1:] else ""
        raise UserError(problems[0] + more, hint=f"every row has {SHAPES}")
    if not found:
        raise UserError(f"{what} holds no conversation", hint=f"every row has {SHAPES}")
    return found


def _rows(what: str) -> Iterator[tuple[str, Any]]:
    path = Path(what).expanduser()
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if _reader(each) is not None and each.is_file())
        if not files:
            raise UserError(
                f"{path} holds no data", hint="files ending in .jsonl, .json, .csv, .tsv, .parquet"
            )
        for file in files:
            yield from _from_file(file)
    elif path.exists():
        yield from _from_file(path)
    elif _reader(path) is not None or what.startswith((".", "/", "~")) or what.count("/") > 1:
        raise UserError(f"there is no {path} to learn from", hint="give a file, a directory, or a hub name")
    else:
        yield from _from_hub(what)


def _from_file(path: Path) -> Iterator[tuple[str, Any]]:
    reader = _reader(path)
    if reader is None:
        raise UserError(
            f"{path} has an ending that is not known", hint="name it .jsonl, .json, .csv, .tsv or .parquet"
        )
    try:
        yield from reader(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error.reason}", hint="convert it with iconv") from error
    except (OSError, csv.Error) as error:
        raise UserError(f"{path} cannot be read to its end: {error}", hint="copy it again") from error


def _reader(path: Path) -> Any:
    ending = path.suffix.lower()
    if ending in LINES:
        return _json_lines
    if ending == ".json":
        return _json_list
    if ending in TABLES:
        return _table
    return _binary if ending in BINARY else None


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    # utf-8-sig: editors on Windows put a mark before the first line.
    with path.open(encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                yield f"{path} line {number}", _parsed(line)


def _json_list(path: Path) -> Iterator[tuple[str, Any]]:
    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip()[:1] != "[":
        # JSON lines are often named .json.
        yield from _json_lines(path)
        return
    rows = _parsed(text)
    for number, row in enumerate([rows] if isinstance(rows, _BadRow) else rows, 1):
        yield f"{path} entry {number}", row


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        # Its own words count lines within the text, which is one line of the file as a rule.
        at = f"line {error.lineno}, column {error.colno}" if "\n" in text.strip() else f"column {error.colno}"
        return _BadRow(f"not JSON: {error.msg} at {at}")
    except (ValueError, RecursionError) as error:
        return _BadRow(f"not JSON: {error}")


def _table(path: Path) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(MOST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as handle:
        delimiter = TABLES[path.suffix.lower()]
        first = handle.readline()
        handle.seek(0)
        if delimiter not in first and ";" in first:  # spreadsheets write it where the comma is in numbers
            delimiter = ";"
        rows = csv.DictReader(handle, delimiter=delimiter, strict=True)
        begins = 2
        for row in rows:
            yield f"{path} line {begins}", row
            begins = rows.line_num + 1


def _binary(path: Path) -> Iterator[tuple[str, Any]]:
    yield from _loaded(str(path), BINARY[path.suffix.lower()], data_files=str(path))


def _from_hub(name: str) -> Iterator[tuple[str, Any]]:
    repository, _, split = name.partition(":")
    yield from _loaded(name, repository, split=split or "train")


def _loaded(name: str, *arguments: str, split: str = "train", **options: str) -> Iterator[tuple[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{name} needs the package datasets", hint="pip install datasets") from error
    try:
        rows = datasets.load_dataset(*arguments, **options, split=split)
    except Exception as error:  # its errors are those of pyarrow, fsspec, httpx and the hub's client
        raise UserError(
            f"{name} is no file here, and cannot be loaded as a data set: {first_line(error)}",
            hint="give a local file, or load it once where the hub answers",
        ) from error
    for number, row in enumerate(rows, 1):
        yield f"{name} row {number}", row


def _messages(row: Any) -> Iterable[Message]:
    if isinstance(row, _BadRow):
        raise row
    if not isinstance(row, dict):
        raise _BadRow(f"a row is an object with columns, not {_kind(row)}")
    row = _named_plainly(row)
    for column in ("messages", "conversations"):
        if row.get(column):
            return _turns(row[column], column)
    asked = next((column for column in QUESTIONS if row.get(column) is not None), None)
    if asked is None:
        raise _BadRow(f"no columns to learn from, only {', '.join(row) or 'none'}")
    added = [column for column in ADDED if row.get(column) and asked not in ("prompt", column)]
    question = "\n\n".join(_text(row, column) for column in (asked, *added))
    told = next((column for column in ANSWERS if row.get(column) is not None), None)
    answer = _text(row, told or ("output" if asked == "instruction" else "response"))
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [{"role": "system", "content": _text(row, "system")}, *turns] if row.get("system") else turns


def _named_plainly(row: dict[Any, Any]) -> dict[str, Any]:
    """With the names of columns in small letters, where that leaves them apart."""
    plain = {str(name).strip().lower(): value for name, value in row.items()}
    return plain if len(plain) == len(row) else {str(name): value for name, value in row.items()}


def _text(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise _BadRow(
            f"{column!r} is {_kind(value)}, not text"
            if column in row
            else f"no {column!r}, only {', '.join(row)}"
        )
    if not value.strip():
        raise _BadRow(f"{column!r} is empty")
    return value


def _turns(turns: Any, column: str) -> Iterable[Message]:
    # A cell of a CSV file holds the list as text.
    if isinstance(turns, str):
        try:
            turns = json.loads(turns)
        except ValueError as error:
            raise _BadRow(f"{column!r} is text that is not JSON") from error
    if not isinstance(turns, list):
        raise _BadRow(f"{column!r} is {_kind(turns)}, not a list")
    found = [_turn(turn, number) for number, turn in enumerate(turns, 1)]
    if found[-1]["role"] != "assistant":
        raise _BadRow(f"the last message is the {found[-1]['role']}'s: there is no answer to learn")
    if len(found) == 1:
        raise _BadRow("an answer without a question")
    return found


def _turn(turn: Any, number: int) -> Message:
    if not isinstance(turn, dict):
        raise _BadRow(f"message {number} is {_kind(turn)}, not an object with role and content")
    role = turn.get("role", turn.get("from"))
    role = OTHER_NAMES.get(str(role), role)
    if role not in ROLES:
        raise _BadRow(f"message {number} has the role {role!r}, not one of {', '.join(ROLES)}")
    content = turn.get("content", turn.get("value"))
    if not isinstance(content, str):
        raise _BadRow(f"the content of message {number} is {_kind(content)}, not text")
    if role == "assistant" and not content.strip():
        raise _BadRow(f"message {number}, an answer, is empty")
    return {"role": str(role), "content": content}


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "a truth value", dict: "an object", list: "a list", str: "text"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)

"""Rows of data: from files and directories of several kinds, from what `datasets` saved, or from the hub."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from errors import UserError, first_line

LINES = (".jsonl", ".ndjson")
TABLES = {".csv": ",", ".tsv": "\t"}
BINARY = {".parquet": "parquet", ".arrow": "arrow"}
SAVED = ("dataset_dict.json", "dataset_info.json")
"""What `save_to_disk` of the package datasets leaves, of several splits and of one."""
# A field of a CSV file may be a whole book; the module's own bound is 128 KiB.
MOST_FIELD = 1 << 30


class BadRow(Exception):
    """What is wrong with one row; stands in its place, so that the first one is named, of whatever kind."""


def read(what: str) -> Iterator[tuple[str, Any]]:
    """Where each row of `what` is, for people, and the row, or the BadRow in its place. Raises UserError."""
    path = Path(what).expanduser()
    directory, _, split = what.rpartition(":")
    if _is_saved(path):
        yield from _saved(path, "train")
    elif directory and _is_saved(Path(directory).expanduser()):
        yield from _saved(Path(directory).expanduser(), split)
    elif path.is_dir():
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
    rows = _parsed(text)
    if isinstance(rows, BadRow) and text.lstrip()[:1] != "[":
        # JSON lines are often named .json.
        yield from _json_lines(path)
        return
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
        yield f"{path} entry {number}", row


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        # Its own words count lines within the text, which is one line of the file as a rule.
        at = f"line {error.lineno}, column {error.colno}" if "\n" in text.strip() else f"column {error.colno}"
        return BadRow(f"not JSON: {error.msg} at {at}")
    except (ValueError, RecursionError) as error:
        return BadRow(f"not JSON: {error}")


def _table(path: Path) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(MOST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as handle:
        delimiter = TABLES[path.suffix.lower()]
        first = handle.readline()
        handle.seek(0)
        if delimiter not in first and ";" in first:  # spreadsheets write it where the comma is in numbers
            delimiter = ";"
        rows = csv.reader(handle, delimiter=delimiter, strict=True)
        columns = next(rows, [])
        if twice := [name for name in columns if columns.count(name) > 1]:
            raise UserError(f"{path} has two columns {twice[0]!r}", hint="rename one of them")
        begins = rows.line_num + 1
        for fields in rows:
            if len(fields) == len(columns):
                yield f"{path} line {begins}", dict(zip(columns, fields, strict=True))
            elif fields:
                # A comma in a text without quotes: what follows it would be lost.
                wrong = f"{len(fields)} fields where the first line names {len(columns)}"
                yield f"{path} line {begins}", BadRow(wrong)
            begins = rows.line_num + 1


def _binary(path: Path) -> Iterator[tuple[str, Any]]:
    yield from _loaded(str(path), BINARY[path.suffix.lower()], data_files=str(path))


def _from_hub(name: str) -> Iterator[tuple[str, Any]]:
    repository, _, split = name.partition(":")
    yield from _loaded(name, repository, split=split or "train")


def _is_saved(path: Path) -> bool:
    return any((path / name).is_file() for name in SAVED)


def _saved(path: Path, split: str) -> Iterator[tuple[str, Any]]:
    try:
        found = _datasets(str(path)).load_from_disk(str(path))
    except Exception as error:  # those of pyarrow as well
        raise UserError(f"{path} cannot be read: {first_line(error)}", hint="copy it again") from error
    splits = found if isinstance(found, dict) else {"train": found}
    if split not in splits:
        raise UserError(f"{path} has no split {split!r}", hint=f"{path}:SPLIT is one of {', '.join(splits)}")
    for number, row in enumerate(splits[split], 1):
        yield f"{path} row {number}", row


def _loaded(name: str, *arguments: str, split: str = "train", **options: str) -> Iterator[tuple[str, Any]]:
    datasets = _datasets(name)
    try:
        rows = datasets.load_dataset(*arguments, **options, split=split)
    except Exception as error:  # its errors are those of pyarrow, fsspec, httpx and the hub's client
        raise UserError(
            f"{name} cannot be read: {first_line(error)}"
            if options
            else f"{name} is no file here, and cannot be loaded as a data set: {first_line(error)}",
            hint="copy it again" if options else "give a local file, or load it once where the hub answers",
        ) from error
    for number, row in enumerate(rows, 1):
        yield f"{name} row {number}", row


def _datasets(name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{name} needs the package datasets", hint="pip install datasets") from error
    datasets.disable_progress_bars()
    for speaker in ("datasets", "huggingface_hub"):
        # What matters of it is in the error.
        logging.getLogger(speaker).setLevel(logging.CRITICAL)
    return datasets

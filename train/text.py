"""Where the training text comes from, as a stream of pieces."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from errors import UserError, first_line

BUILTIN = Path(__file__).resolve().parent / "corpus" / "shakespeare.txt.xz"
WIKITEXT = ("Salesforce/wikitext", "wikitext-2-raw-v1")
PIECE_CHARACTERS = 1 << 16
PACKED: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open}
JSON_LINES = {".jsonl", ".ndjson"}
LINE_FORMATS = {*JSON_LINES, ".csv", ".tsv"}
TABLES = {".json": "json", ".parquet": "parquet", ".arrow": "arrow"}
# A field of a CSV file may be a whole book; the module's own bound is 128 KiB.
MOST_FIELD = 1 << 30
COLUMN = "text"
Source = Path | Sequence[str]


@dataclass(frozen=True)
class Text:
    """A text to train on. `heldout` is None where the end of `training` has to serve."""

    name: str
    training: tuple[Source, ...]
    heldout: tuple[Source, ...] | None = None


def find(what: str) -> Text:
    """The text named by --data: builtin, wikitext, or a path. Raises UserError."""
    if what == "builtin":
        return Text("Shakespeare's plays and poems (built in)", (BUILTIN,))
    if what == "wikitext":
        return _wikitext()
    path = Path(what).expanduser()
    if not path.exists():
        raise UserError(
            f"there is no {path} to train on",
            hint="--data takes builtin, wikitext, a text file or a directory",
        )
    if path.is_dir() and (path / "state.json").exists():
        return Text(str(path), (_saved_dataset(path),))
    if path.is_dir() and (path / "dataset_dict.json").exists():
        return _saved_splits(path)
    files = (path,) if path.is_file() else tuple(_files_below(path))
    if not files:
        raise UserError(
            f"{path} holds no text",
            hint="files ending in .txt, .md, .jsonl, .json, .csv, .tsv, .parquet, .arrow, .gz or .xz count",
        )
    return Text(str(path), files)


def pieces(sources: tuple[Source, ...]) -> Iterator[str | None]:
    """Strings of 64 K characters or little more, cut at line ends as far as lines are not longer than that;
    None stands between documents. Raises UserError for a file that cannot be read to its end."""
    for source in sources:
        if not isinstance(source, Path):
            yield from _rows(source)
            continue
        try:
            yield from _from_file(source)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{source} is not UTF-8 text: {error.reason}",
                hint="convert it, for instance with iconv; what is packed otherwise than .gz or .xz, unpack",
            ) from error
        except (OSError, EOFError, lzma.LZMAError, zlib.error, csv.Error) as error:
            raise UserError(
                f"{source} cannot be read to its end: {error}", hint="copy it again: it may be cut off"
            ) from error


def _from_file(path: Path) -> Iterator[str | None]:
    form = _form(path)
    if form in TABLES:
        yield from _rows(_load_rows(path))
        return
    with _open(path) as handle:
        if form in LINE_FORMATS:
            yield from _rows(_json_lines(handle, path) if form in JSON_LINES else _csv_rows(handle, path))
        else:
            yield from _chunks(handle)
            yield None


def _form(path: Path) -> str:
    """The ending that tells how to read the file: .jsonl of data.jsonl.xz."""
    return (path.with_suffix("") if path.suffix.lower() in PACKED else path).suffix.lower()


def _files_below(directory: Path) -> list[Path]:
    endings = {".txt", ".md", *PACKED, *LINE_FORMATS, *TABLES}
    return sorted(path for path in directory.rglob("*") if path.suffix.lower() in endings and path.is_file())


def _open(path: Path) -> IO[str]:
    # utf-8-sig: editors on Windows put a mark before the first line.
    opened: IO[str] = PACKED.get(path.suffix.lower(), open)(path, "rt", encoding="utf-8-sig")
    return opened


def _chunks(handle: IO[str]) -> Iterator[str]:
    """The tokenizer needs some 200 bytes for each character of a piece: none may be as long as it likes."""
    lines, size = [], 0
    while line := handle.readline(PIECE_CHARACTERS):
        lines.append(line)
        size += len(line)
        if size > PIECE_CHARACTERS:
            yield "".join(lines)
            lines, size = [], 0
    if lines:
        yield "".join(lines)


def _rows(rows: Iterable[str]) -> Iterator[str | None]:
    for text in rows:
        for start in range(0, len(text), PIECE_CHARACTERS):
            yield text[start : start + PIECE_CHARACTERS]
        yield None


def _json_lines(handle: IO[str], path: Path) -> Iterator[str]:
    for number, line in enumerate(handle, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path} line {number}: not JSON: {error}", hint='every line is one object: {"text": ...}'
            ) from error
        names = list(row) if isinstance(row, dict) else []
        if not isinstance(row, dict) or not isinstance(row.get(COLUMN), str):
            raise UserError(
                f"{path} line {number} has no column {COLUMN!r} with a string, only {names}",
                hint=f"every line is one object with the text under {COLUMN!r}",
            )
        yield row[COLUMN]


def _csv_rows(handle: IO[str], path: Path) -> Iterator[str]:
    csv.field_size_limit(MOST_FIELD)
    first = handle.readline()
    delimiter = "\t" if _form(path) == ".tsv" else ","
    if delimiter not in first and ";" in first:  # spreadsheets write it where the comma is in numbers
        delimiter = ";"
    rows = csv.DictReader(chain([first], handle), delimiter=delimiter, strict=True)
    if COLUMN not in (rows.fieldnames or ()):
        raise _no_column(list(rows.fieldnames or ()), path)
    for row in rows:
        if None in row:
            raise UserError(
                f"{path} line {rows.line_num} has more fields than its first line",
                hint='put text that holds the separator into "quotes"',
            )
        yield row[COLUMN] or ""


def _load_rows(path: Path) -> Any:
    datasets = _datasets()
    try:
        loaded = datasets.load_dataset(TABLES[_form(path)], data_files=str(path), split="train")
    except Exception as error:  # its errors are those of pyarrow, pandas and fsspec
        raise UserError(
            f"{path} cannot be read as {_form(path)}: {first_line(error)}", hint="copy it again"
        ) from error
    return _text_column(loaded, path)


def _saved_splits(path: Path) -> Text:
    """A DatasetDict as `save_to_disk` leaves it: its train split, held out its validation split if any."""
    if not (path / "train").is_dir():
        splits = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
        raise UserError(f"{path} has no split train, only {splits}", hint="give the directory of one split")
    validation = path / "validation"
    heldout = (_saved_dataset(validation),) if validation.is_dir() else None
    return Text(str(path), (_saved_dataset(path / "train"),), heldout)


def _saved_dataset(path: Path) -> Any:
    return _text_column(_datasets().load_from_disk(str(path)), path)


def _text_column(rows: Any, path: Path) -> Any:
    names = rows.column_names
    if COLUMN not in names:
        raise _no_column(names, path)
    return rows[COLUMN]


def _no_column(names: list[str], path: Path) -> UserError:
    return UserError(
        f"{path} has no column {COLUMN!r}, only {names}", hint=f"rename the column to {COLUMN!r}"
    )


def _wikitext() -> Text:
    datasets = _datasets()
    try:
        splits = datasets.load_dataset(*WIKITEXT)
    # Offline, the hub client fails in unrelated ways: OSError, errors of requests and httpx, its own.
    except Exception as error:
        raise UserError(
            f"wikitext-2 is not in the local cache and the hub does not answer: {type(error).__name__}",
            hint="use --data builtin, or --data PATH with a copy of the text",
        ) from error
    # Rows are lines here, so a whole split is one document.
    return Text(
        "wikitext-2", (["".join(splits["train"][COLUMN])],), (["".join(splits["validation"][COLUMN])],)
    )


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "this --data needs the package datasets", hint="pip install datasets, or --data builtin"
        ) from error
    # Of every rank that reads, in its log.
    datasets.disable_progress_bars()
    return datasets

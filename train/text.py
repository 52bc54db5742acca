"""Where the training text comes from, as a stream of pieces."""

from __future__ import annotations

import lzma
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from errors import UserError

BUILTIN = Path(__file__).resolve().parent / "corpus" / "shakespeare.txt.xz"
WIKITEXT = ("Salesforce/wikitext", "wikitext-2-raw-v1")
PIECE_CHARACTERS = 1 << 16
ROW_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".arrow": "arrow"}
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
            f"{path} holds no text", hint="files ending in .txt, .md, .xz, .jsonl, .parquet or .arrow count"
        )
    return Text(str(path), files)


def pieces(sources: tuple[Source, ...]) -> Iterator[str | None]:
    """Strings of about 64 K characters that end with a line; None stands between documents."""
    for source in sources:
        if not isinstance(source, Path):
            yield from _rows(source)
        elif source.suffix in ROW_FORMATS:
            yield from _rows(_load_rows(source))
        else:
            with _open(source) as handle:
                yield from _chunks(handle, source)
            yield None


def _files_below(directory: Path) -> list[Path]:
    endings = {".txt", ".md", ".xz", *ROW_FORMATS}
    return sorted(path for path in directory.rglob("*") if path.suffix in endings and path.is_file())


def _open(path: Path) -> IO[str]:
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _chunks(handle: IO[str], path: Path) -> Iterator[str]:
    try:
        while lines := handle.readlines(PIECE_CHARACTERS):
            yield "".join(lines)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text: {error.reason}", hint="convert it, for instance with iconv"
        ) from error


def _rows(rows: Sequence[str]) -> Iterator[str | None]:
    for text in rows:
        yield text
        yield None


def _load_rows(path: Path) -> Any:
    datasets = _datasets()
    loaded = datasets.load_dataset(ROW_FORMATS[path.suffix], data_files=str(path), split="train")
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
        raise UserError(
            f"{path} has no column {COLUMN!r}, only {names}", hint=f"rename the column to {COLUMN!r}"
        )
    return rows[COLUMN]


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
    return datasets

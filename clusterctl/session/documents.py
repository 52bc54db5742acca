"""JSON files that somebody hands in: whatever is wrong with one is told with its file, line and key."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from clusterctl.errors import UsageError, in_words
from clusterctl.store import files

Kind = TypeVar("Kind")

ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Schema(msgspec.Struct):
    schema: str


def version() -> str:
    """Of the installed package, for a file that we write; "" for a source tree that nobody installed."""
    try:
        return metadata.version("clusterctl")
    except metadata.PackageNotFoundError:
        return ""


def schema_of(path: Path, hint: str) -> str:
    """What the file says it is. Raises UsageError with ``hint``, as all of these do."""
    return decoded(path, _Schema, hint).schema


def decoded(path: Path, kind: type[Kind], hint: str) -> Kind:
    data = content(path, hint)
    try:
        return msgspec.json.decode(data, type=kind)
    except ERRORS as error:
        problem, keys = said(error), _keys(str(error))
        if None in keys:
            keys = _named(msgspec.json.decode(data), kind, keys)
            problem = problem.replace(problem.partition(" ")[0], _written(keys), 1)
        raise damaged(path, problem, hint, line=_line(data, str(error), keys)) from None


def content(path: Path, hint: str) -> bytes:
    try:
        data = files.read(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    if data is None:
        raise damaged(path, "the file is missing", hint)
    return data


def damaged(path: Path, problem: str, hint: str, *, line: int = 0) -> UsageError:
    return UsageError(f"{path}{f' line {line}' if line else ''}: {problem}", hint=hint)


def said(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else in_words(error)


Key = str | int | None
"""A field, a place in a list, or a key that the decoder does not name."""


def _keys(error: str) -> list[Key]:
    place = error.partition(" - at `")[2].rpartition("`")[0]
    found = re.findall(r"\.(\w+)|\[(\d+)\]|(\[\.\.\.\])", place)
    return [name or (int(index) if index else None) for name, index, _ in found]


def _named(document: Any, kind: type[Any], keys: list[Key]) -> list[Key]:
    """``keys`` with the names that the decoder left out: of each group that one entry is kept at which it
    fails alone."""
    node = document
    for place, key in enumerate(keys):
        if key is None:
            entries = dict(node)
            for name, value in entries.items():
                node.clear()
                node[name] = value
                if _fails(document, kind):
                    keys[place] = key = name
                    break
        node = node[key] if key is not None else node
    return keys


def _fails(document: Any, kind: type[Any]) -> bool:
    try:
        msgspec.convert(document, kind)
    except msgspec.ValidationError:
        return True
    return False


def _written(keys: list[Key]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


def _line(data: bytes, error: str, keys: list[Key]) -> int:
    """The line that a decoder's error is about; 0 where nobody can tell."""
    if found := re.search(r"\(byte (\d+)\)", error):
        return data.count(b"\n", 0, int(found[1])) + 1
    if error.startswith("Input data was truncated"):
        return data.rstrip().count(b"\n") + 1
    try:
        node = yaml.compose(data.decode(), Loader=yaml.BaseLoader)  # JSON is YAML, which knows its lines
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return 0
    line = 0
    for key in keys:
        if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            inside = next(((name, value) for name, value in node.value if name.value == key), None)
            if inside is None:
                break
            line, node = inside[0].start_mark.line + 1, inside[1]
    return line

"""YAML whose scalars are all texts (so that 3.10 stays 3.10), with the line of every key."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from clusterctl.errors import UsageError

Path = tuple[str, ...]


class Document(msgspec.Struct, frozen=True):
    """``value`` is made of dicts, lists and texts; ``lines`` maps the path of a key to its line, from 1."""

    source: str
    value: Any
    lines: dict[Path, int]

    def place(self, path: Path) -> str:
        """``envs/x.yaml line 4, expect.torch``, for messages."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        line = f" line {self.lines[known]}" if known else ""
        return f"{self.source}{line}{', ' if path else ''}{'.'.join(path)}"


def load(text: str, source: str) -> Document:
    """Raises UsageError for what is no YAML, no mapping, or gives a key twice. An empty file is ``{}``."""
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source} line {mark.line + 1}" if mark else source
        raise UsageError(f"{where}: {error.problem}", hint="`key: value` lines, indented by spaces") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise UsageError(
            f"{source} line {line}: a control character, U+{ord(text[error.position]):04X}",
            hint="a profile is plain UTF-8 text",
        ) from None
    except yaml.YAMLError as error:
        raise UsageError(f"{source}: {error}", hint="a profile is plain UTF-8 text") from None
    lines: dict[Path, int] = {}
    try:
        value = _build(root, (), lines, source) if root is not None else {}
    except RecursionError:
        raise UsageError(f"{source}: an alias contains itself", hint="write the value out") from None
    if not isinstance(value, dict):
        raise UsageError(
            f"{source}: it must consist of `key: value` lines", hint="as in `python: /opt/venv/bin/python`"
        )
    return Document(source, value, lines)


def _build(node: yaml.Node, path: Path, lines: dict[Path, int], source: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value)
            here = (*path, name)
            line = key.start_mark.line + 1
            if name in found:
                raise UsageError(
                    f"{source} line {line}: `{name}` is given twice, first in line {lines[here]}",
                    hint="keep one of them",
                )
            lines[here] = line
            found[name] = _build(value, here, lines, source)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, path, lines, source) for item in node.value]
    return str(node.value)

"""The hosts a person has named in ssh_config: `Host` entries without wildcards, `Include` followed."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from clusterctl.errors import UsageError

_DEEPEST = 16  # as in ssh itself


def named_hosts(config: Path | None) -> tuple[str, ...]:
    """Names in the order of the file, each once. ``config`` None is ~/.ssh/config. Raises UsageError."""
    path = config or Path.home() / ".ssh/config"
    if not path.is_file():
        raise UsageError(f"{path} does not exist", hint="name the hosts: clusterctl init gpu1 gpu2")
    return tuple(dict.fromkeys(_hosts(path, 0)))


def _hosts(path: Path, depth: int) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        keyword, value = _split(line)
        if keyword == "host":
            yield from (name for name in value if not re.search(r"[*?!]", name))
        elif keyword == "include" and depth < _DEEPEST:
            for pattern in value:
                whole = os.path.join(Path.home() / ".ssh", os.path.expanduser(pattern))  # noqa: PTH111, PTH118
                for found in sorted(glob.glob(whole)):  # noqa: PTH207 - absolute patterns, which Path refuses
                    yield from _hosts(Path(found), depth + 1)


def _split(line: str) -> tuple[str, list[str]]:
    """(lower-case keyword, values); ssh allows `Keyword value`, `Keyword=value` and quotes."""
    keyword, _, rest = re.sub(r"^\s*(\w+)\s*[=\s]\s*", r"\1 ", line).partition(" ")
    try:
        return keyword.lower(), shlex.split(rest, comments=True)
    except ValueError:
        return keyword.lower(), rest.split()

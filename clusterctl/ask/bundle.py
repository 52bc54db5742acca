"""Packs files of the node room into one text that a bare Python on a host can run from its stdin."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

_CANDIDATES = (
    "/usr/bin/python3",
    "/usr/local/bin/python3",
    "python3",
    "/opt/conda/bin/python3",
    "python",
)
NO_PYTHON = 86
_TOO_OLD = 85

# No quote, dollar, backslash or backtick: it stands inside double quotes inside single quotes.
_BOOT = (
    f"import sys;b=sys.stdin.buffer;sys.version_info<(3,8) and sys.exit({_TOO_OLD});"
    "exec(b.read(int(b.readline())))"
)

# Isolated (-I): it runs in the user's home directory, where a queue.py of their own would be ours otherwise.
# Any login shell (bash, zsh, fish, csh) passes the single-quoted text on untouched. A python that cannot be
# executed (126, 127) is passed over.
REMOTE_COMMAND = (
    "exec /bin/sh -c 'for p in "
    + " ".join(_CANDIDATES)
    + '; do [ -n "$(command -v "$p")" ] || continue; '
    + f'"$p" -I -S -c "{_BOOT}"; s=$?; '
    + f"case $s in {_TOO_OLD}|126|127) ;; *) exit $s;; esac; done; exit {NO_PYTHON}'"
)

_ALWAYS = ("shared.wire", "shared.compiled")


def read_node_files(names: Sequence[str]) -> dict[str, str]:
    """Source text of the named modules of `clusterctl/node`, such as ``run.agent``: as it was when this
    process first asked for it. A newer version that is installed while a run lives speaks another way."""
    return {name: _source(name) for name in names}


@functools.cache
def _source(name: str) -> str:
    place = resources.files("clusterctl") / "node" / f"{name.replace('.', '/')}.py"
    return place.read_text(encoding="utf-8")


def pack(main: str, request: Mapping[str, Any], files: Sequence[str] = ()) -> bytes:
    """Bytes to send first over stdin: runs ``main(request, files)`` of the node module ``main``.

    ``files`` are further node modules it needs; `_ALWAYS` travel with each. The node's ``main`` receives
    the request and the sources of the whole bundle (the agent's are laid on disk, to start it from).
    """
    names = tuple(dict.fromkeys((main, *_ALWAYS, *files)))
    parts = {
        "main": main,
        "digest": _digest(names),
        "request": dict(request),
        "files": read_node_files(names),
    }
    told = json.dumps(parts).encode()
    text = f"{_source('loader')}\nsys.exit(run(sys.stdin.buffer.read({len(told)})))\n".encode()
    return b"%d\n" % len(text) + text + told


@functools.cache
def _digest(names: tuple[str, ...]) -> str:
    """By it a node knows whether it has compiled these sources before."""
    return hashlib.sha256(json.dumps(read_node_files(names)).encode()).hexdigest()[:32]

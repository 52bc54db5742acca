"""Packs files of the node room into one text that a bare Python on a host can run from its stdin."""

from __future__ import annotations

import functools
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

_LOADER = """
import importlib, json, sys
from importlib.machinery import ModuleSpec
bundle = json.loads({bundle!r})
top = "clusterctl_node."
packages = {{"clusterctl_node", *(top + name.rpartition(".")[0] for name in bundle["files"] if "." in name)}}
class Finder:  # no subclass of importlib.abc: that module costs more to load than the bundle takes to run
    def find_spec(self, name, path=None, target=None):
        if name in packages or name.startswith(top) and name[len(top):] in bundle["files"]:
            return ModuleSpec(name, self, is_package=name in packages)
        return None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        name = module.__name__.partition(".")[2]
        path = "clusterctl/node/" + name.replace(".", "/") + ".py"
        exec(compile(bundle["files"].get(name, ""), path, "exec"), module.__dict__)
sys.meta_path.insert(0, Finder())
main = importlib.import_module("clusterctl_node." + bundle["main"])
sys.exit(main.main(bundle["request"], bundle["files"]))
"""


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

    ``files`` are further node modules it needs; ``shared.wire`` always travels. The node's ``main`` receives
    the request and the sources of the whole bundle (the agent writes them to disk to start itself again).
    """
    sources = read_node_files(tuple(dict.fromkeys((main, "shared.wire", *files))))
    bundle = json.dumps({"main": main, "request": dict(request), "files": sources})
    text = _LOADER.format(bundle=bundle).encode("utf-8")
    return b"%d\n" % len(text) + text

"""Where a host keeps what torch, Triton and DeepSpeed compile, when hosts share the home directory. Pure.

Their default is the home directory: on a network file system ranks of many hosts replace one another's files
there, and die of “Stale file handle”. The node sees to it that the place is the user's own, see
``node/run/caches.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from clusterctl.facts.model import Facts
from clusterctl.plan.model import Setting

ORIGIN = "clusterctl: the home directory is shared"
VARIABLES = {
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TORCH_EXTENSIONS_DIR": "torch_extensions",
    "TRITON_CACHE_DIR": "triton",
}
_ALSO_SAID_BY = {"TRITON_CACHE_DIR": "TRITON_HOME"}


def place(facts: Facts) -> str:
    """The directory for all of them, "" where they need none or there is no local disk for it."""
    return (
        ""
        if not facts.shared_token or why_none(facts)
        else f"{_temporary(facts)}/.clusterctl-cache-{facts.uid}"
    )


def why_none(facts: Facts) -> str:
    """What keeps a host that shares its home from having a place of its own; "" where nothing does."""
    if not facts.shared_token:
        return ""
    found = next((each for each in facts.filesystems if each.role == "tmp"), None)
    where = _temporary(facts)
    if found is None or not found.exists or not found.writable or found.read_only:
        return f"{where} cannot be written"
    if found.noexec:
        return f"nothing may be executed in {where}"
    return f"{where} is on a network file system" if found.options else ""


def settings(facts: Facts, own: Iterable[Setting] = ()) -> tuple[Setting, ...]:
    """The variables of one host, less those that the user (``own``) or the host itself has set.

    torch gives each of its versions a folder of its own, unless TORCH_EXTENSIONS_DIR is set.
    """
    root = place(facts)
    if not root:
        return ()
    told = {setting.name for setting in own} | {variable.name for variable in facts.variables}
    version = f"py{facts.python.version}-torch{facts.python.packages.get('torch', '')}"
    version = re.sub(r"[^\w.+-]", "_", f"{version}-{facts.python.torch_cuda or 'cpu'}")
    return tuple(
        Setting(
            name, f"{root}/{folder}/{version}" if folder == "torch_extensions" else f"{root}/{folder}", ORIGIN
        )
        for name, folder in VARIABLES.items()
        if name not in told and _ALSO_SAID_BY.get(name) not in told
    )


def _temporary(facts: Facts) -> str:
    return next((each.path for each in facts.filesystems if each.role == "tmp"), "/tmp").rstrip("/")

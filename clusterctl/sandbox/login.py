"""What a login on a sandbox host starts with, and what of the user's machine stays visible there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from clusterctl.sandbox.host_init import HIDDEN

_STANDARD_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def login_environment(cache: Path) -> dict[str, str]:
    """PATH with the interpreter that runs now first, and one place for what torch compiles on any host."""
    own = str(Path(sys.executable).parent)
    wanted = (own, *os.environ.get("PATH", "").split(":"), *_STANDARD_PATH)
    path = dict.fromkeys(p for p in wanted if p.startswith("/") and not set(p) & set('"\\\n'))
    extensions = cache / "torch_extensions"
    extensions.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {"PATH": ":".join(path), "TORCH_EXTENSIONS_DIR": str(extensions)}


def kept_directories(sandbox: Path, cache: Path) -> list[str]:
    """Directories below /tmp and the like that hosts still see: interpreter, package, working directory."""
    wanted: Iterable[Path] = (
        sandbox,
        cache,
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(__file__).parents[2],
        Path.cwd(),
    )
    hidden = [Path(p) for p in HIDDEN]
    below = {p.resolve() for p in wanted if any(h in p.resolve().parents for h in hidden)}
    # Parents first: a child is bound over what its parent shows.
    return sorted(map(str, below))

"""Where named clusters are written down: the user's `config.toml` and the `clusterctl.toml` of a project."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from clusterctl.errors import UsageError
from clusterctl.inventory import clusters
from clusterctl.inventory.clusters import NamedCluster, Tracking

PROJECT_FILE = "clusterctl.toml"


def named(name: str) -> NamedCluster:
    """What ``--cluster NAME`` stands for. Raises UsageError."""
    user = _short(user_file())
    found = clusters.find(every(), name, f"./{PROJECT_FILE} and {user}")
    if not found.hostfile:
        raise UsageError(
            f"cluster {name} has no hostfile", hint=f'hostfile = "FILE" under [cluster.{name}] in {user}'
        )
    return found


def every() -> dict[str, NamedCluster]:
    """All of them by name; what the project's file says is stronger. Raises UsageError."""
    own = _read(user_file(), trusted=True)
    return clusters.over(_read(Path.cwd() / PROJECT_FILE, trusted=False), own)


def tracking() -> Tracking:
    """Where the user's own file has metrics sent. Raises UsageError."""
    path = user_file()
    return clusters.tracking(_text(path), _short(path))


def user_file(environ: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CONFIG_HOME/clusterctl/config.toml`, by default under `~/.config`."""
    base = environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "clusterctl" / "config.toml"


def _read(path: Path, *, trusted: bool) -> dict[str, NamedCluster]:
    from clusterctl.session.profiles import shipped

    return clusters.parse(_text(path), _short(path), str(path.parent), shipped=shipped(), trusted=trusted)


def _text(path: Path) -> str:
    """Empty where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"{_short(path)} cannot be read: {reason}", hint="a TOML file: [cluster.lab]"
        ) from error


def _short(path: Path) -> str:
    if path.name == PROJECT_FILE:
        return f"./{PROJECT_FILE}"
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return str(path)

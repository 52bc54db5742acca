"""Reads the environment profile that `--profile` names."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from clusterctl.errors import UsageError
from clusterctl.plan.profile import Profile, decode


def read(name: str) -> Profile:
    """The profile in the file ``name``, else the shipped one of that name; an empty one for "".

    Raises UsageError.
    """
    if not name:
        return Profile()
    try:
        text = _locate(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        shipped = ", ".join(sorted(path.stem for path in _shipped_directory().glob("*.yaml")))
        raise UsageError(
            f"the profile {name} cannot be read: {reason}",
            hint=f"name a YAML file, or one that comes with clusterctl: {shipped}",
        ) from error
    return decode(text, name)


def _locate(name: str) -> Path:
    path = Path(name).expanduser()
    shipped = _shipped_directory() / f"{name}.yaml"
    return shipped if "/" not in name and shipped.is_file() and not path.is_file() else path


def _shipped_directory() -> Path:
    """Inside an installed package, beside it in a checkout."""
    package = Path(str(resources.files("clusterctl")))
    return next(path for path in (package / "_envs", package.parent / "envs") if path.is_dir())

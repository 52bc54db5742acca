"""Reads the environment profile that `--profile` names."""

from __future__ import annotations

from pathlib import Path

from clusterctl.errors import UsageError
from clusterctl.plan.profile import Profile, decode


def read(name: str) -> Profile:
    """The profile in the file ``name``; an empty one for "". Raises UsageError."""
    if not name:
        return Profile()
    try:
        text = Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"the profile {name} cannot be read: {reason}", hint="name a YAML file such as envs/cpu.yaml"
        ) from error
    return decode(text, name)

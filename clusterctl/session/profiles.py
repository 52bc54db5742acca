"""Reads the environment profile that `--profile` names."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

import msgspec

from clusterctl.errors import UsageError
from clusterctl.inventory.fold import fold
from clusterctl.inventory.model import HostfileWarning
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
        raise UsageError(
            f"the profile {name} cannot be read: {reason}",
            hint=f"name a YAML file, or one that comes with clusterctl: {', '.join(shipped())}",
        ) from error
    return decode(text, name)


def activated_by(profile: Profile, name: str, script: str) -> Profile:
    """``profile`` with the activation script of a virtual environment, as it is named on the hosts, for all.

    Raises UsageError for a path that depends on a directory, and where the profile has a line of its own.
    """
    if not script.startswith(("/", "~/")):
        raise UsageError(
            f"--venv-script {script}: every host needs the whole path",
            hint="--venv-script /opt/venv/bin/activate, or ~/venv/bin/activate for each host's own home",
        )
    if profile.activate or any(own.activate for own in profile.hosts.values()):
        raise UsageError(
            f"--venv-script was given, and profile {name} has `activate`", hint="keep one of them"
        )
    home = '"$HOME"/' if script.startswith("~/") else ""
    return msgspec.structs.replace(profile, activate=f". {home}{shlex.quote(script.removeprefix('~/'))}")


def unknown_hosts(profile: Profile, name: str, known: Iterable[str]) -> tuple[HostfileWarning, ...]:
    """A warning for each host of the profile that the hostfile does not have: what it says there is for
    nobody, which a misspelt name looks like."""
    known = tuple(known)
    of_hosts = [*profile.hosts, *(profile.python if isinstance(profile.python, dict) else ())]
    return tuple(
        HostfileWarning(
            f"profile {name}",
            f"its host '{host}' is not in the hostfile, so what it says of it is for nobody",
            f"did you mean '{near[0]}'?" if near else f"the hostfile has {fold(known)}",
        )
        for host in dict.fromkeys(of_hosts)
        if host not in known
        for near in [get_close_matches(host, known, n=1)]
    )


def shipped() -> tuple[str, ...]:
    """The names of those that come with clusterctl."""
    return tuple(sorted(path.stem for path in _shipped_directory().glob("*.yaml")))


def _locate(name: str) -> Path:
    path = Path(name).expanduser()
    own = _shipped_directory() / f"{name}.yaml"
    return own if "/" not in name and own.is_file() and not path.is_file() else path


def _shipped_directory() -> Path:
    """Inside an installed package, beside it in a checkout."""
    package = Path(str(resources.files("clusterctl")))
    return next(path for path in (package / "_envs", package.parent / "envs") if path.is_dir())

"""Reads every source of variables on this machine, once: nothing else in a session looks for them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from clusterctl.errors import UsageError
from clusterctl.network.model import Setting
from clusterctl.plan import layers, notes, variables
from clusterctl.plan.layers import Layers
from clusterctl.session.target import Target


def read(
    target: Target,
    *,
    env: Iterable[str] = (),
    env_file: str = "",
    settings: Iterable[Setting] = (),
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Layers]:
    """For each host, strongest first: ``settings``, ``env`` (``K=V``, or ``K`` to copy), ``env_file``, the
    named cluster, the profile, its activation line, ``.deepspeed_env``, the caller's ``NCCL_*``. Raises
    UsageError, naming the source.
    """
    own, named = tuple(settings), variables.from_options(env, environ)
    _one_value(own, named)
    typed = [own, named]
    if env_file:
        typed.append(_file(Path(env_file).expanduser(), f"--env-file {env_file}"))
    origin = f"profile {target.profile_name}"
    if target.cluster is not None:
        typed.append(variables.from_origins(target.cluster.env, target.cluster.env_origins))
    return layers.of_hosts(
        target.names,
        typed=variables.strongest(*typed),
        profile={host: variables.from_mapping(target.profile.env_of(host), origin) for host in target.names},
        below=variables.strongest(*_deepspeed_files(environ), variables.from_caller(environ)),
    )


def pdsh_ssh_args(environ: Mapping[str, str] = os.environ) -> str:
    """What the user wants every ssh of pdsh to be given."""
    return environ.get("PDSH_SSH_ARGS_APPEND", "").strip()


def staying(
    given: Mapping[str, Iterable[Setting]], environ: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """Notes on variables of this shell that hosts will not have, by what each of them is ``given``."""
    return notes.staying(environ, given)


def _one_value(settings: Iterable[Setting], named: Iterable[Setting]) -> None:
    values = {setting.name: setting for setting in named}
    for setting in settings:
        other = values.get(setting.name, setting)
        if other.value != setting.value:
            raise UsageError(
                f"{setting.name} is {setting.value} by {setting.origin} and {other.value} by {other.origin}",
                hint="keep one of them",
            )


def _deepspeed_files(environ: Mapping[str, str]) -> list[tuple[Setting, ...]]:
    """DeepSpeed's files: the one here beats the one at home."""
    name = environ.get("DS_ENV_FILE", ".deepspeed_env")
    return [_file(path, str(path)) for path in (Path(name), Path.home() / name) if path.is_file()]


def _file(path: Path, where: str) -> tuple[Setting, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"{where}: {reason}", hint="KEY=VALUE lines, # for comments") from error
    return variables.from_file(text, str(path))

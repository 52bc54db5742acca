"""Which variables travel, and which of several sources wins. Pure: texts come in as arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from clusterctl.errors import UsageError
from clusterctl.plan.model import Setting

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_KNOWN = re.compile(r"TOKENIZERS_\w*|(?:NCCL|UCX)_IB_PKEY")
"""Named like secrets, and none."""
HIDDEN = "(hidden)"

_SLOTS = "the slots of the hostfile decide; --nodes, --gpus-per-node and --include choose among them"
_PLACE = "the order of the hostfile decides which rank runs where"
RANK_VARIABLES = {
    "RANK": _PLACE,
    "LOCAL_RANK": _PLACE,
    "GROUP_RANK": _PLACE,
    "ROLE_RANK": _PLACE,
    "NODE_RANK": _PLACE,
    "WORLD_SIZE": _SLOTS,
    "LOCAL_WORLD_SIZE": _SLOTS,
    "GROUP_WORLD_SIZE": _SLOTS,
    "ROLE_WORLD_SIZE": _SLOTS,
}
"""Variables that the engine gives every rank its own value of, and what decides that value."""


def check_name(name: str, where: str) -> None:
    """Refuse names no process can have, those that belong to each rank, and PYTHON*: it would change the
    interpreters that start the run."""
    if not _NAME.match(name):
        raise UsageError(
            f"{where}: `{name}` is not a valid variable name",
            hint="letters, digits and _, as in --env NCCL_DEBUG=INFO",
        )
    if name.startswith("PYTHON"):
        raise UsageError(
            f"{where}: `{name}` does not travel, it would change every Python on the way",
            hint="set it inside the script, or on the host: in the profile's `activate` line",
        )
    if name in RANK_VARIABLES:
        raise UsageError(
            f"{where}: `{name}` is set for each rank, so a value for all of them would be lost",
            hint=RANK_VARIABLES[name],
        )


def from_options(options: Iterable[str], environ: Mapping[str, str]) -> tuple[Setting, ...]:
    """``K=V`` as given, ``K`` copied from ``environ``. A later option of the same name wins."""
    found: dict[str, Setting] = {}
    for option in options:
        name, equals, value = option.partition("=")
        check_name(name, "--env")
        if not equals:
            if name not in environ:
                raise UsageError(
                    f"--env {name}: not set here, so there is nothing to copy", hint=f"--env {name}=VALUE"
                )
            value = environ[name]
        found[name] = Setting(name, _passable(value, f"--env {name}"), "--env")
    return tuple(found.values())


def from_file(text: str, source: str) -> tuple[Setting, ...]:
    """``KEY=VALUE`` lines as DeepSpeed's ``.deepspeed_env`` has them; blank lines and ``#`` comments too.

    Split at the first ``=``, both sides stripped; ``$`` is not expanded.
    """
    found: dict[str, Setting] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        where = f"{source} line {number}"
        if not equals:
            raise UsageError(
                f"{where}: `{line.strip()}` is not KEY=VALUE", hint="one setting a line, `#` for comments"
            )
        name = name.strip().removeprefix("export ").strip()
        check_name(name, where)
        found[name] = Setting(name, _passable(value.strip(), where), where)
    return tuple(found.values())


def from_mapping(values: Mapping[str, str], origin: str) -> tuple[Setting, ...]:
    for name in values:
        check_name(name, origin)
    return tuple(Setting(name, _passable(value, origin), origin) for name, value in values.items())


def from_origins(values: Mapping[str, str], origins: Mapping[str, str]) -> tuple[Setting, ...]:
    """Each with an origin of its own."""
    return tuple(
        each for name, value in values.items() for each in from_mapping({name: value}, origins[name])
    )


def from_caller(environ: Mapping[str, str]) -> tuple[Setting, ...]:
    """The caller's own ``NCCL_*``, which every launcher forwards."""
    return tuple(
        Setting(name, value, "your environment")
        for name, value in sorted(environ.items())
        if name.startswith("NCCL_") and _NAME.match(name)
    )


def strongest(*layers: Iterable[Setting]) -> tuple[Setting, ...]:
    """One setting a name: the first layer that has it wins. Sorted by name."""
    found: dict[str, Setting] = {}
    for layer in layers:
        for setting in layer:
            found.setdefault(setting.name, setting)
    return tuple(found[name] for name in sorted(found))


def is_secret(name: str) -> bool:
    """Whether the value of a variable of this name is shown to nobody."""
    return _SECRET.search(name) is not None and not _KNOWN.fullmatch(name)


def shown(setting: Setting) -> str:
    """The value for a screen or a file: secrets by name are hidden."""
    return HIDDEN if is_secret(setting.name) else setting.value


def _passable(value: str, where: str) -> str:
    if "\0" in value:
        raise UsageError(f"{where}: the value holds a NUL byte", hint="no process can receive one")
    return value

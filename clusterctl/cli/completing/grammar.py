"""All verbs with their options, as data. Read from the program once, and kept: that takes as long as many
answers."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from clusterctl import __version__

_CHOICES = re.compile(r"[<\[ ]([a-z0-9-]+(?:\|[a-z0-9-]+)+)[>\]]?\Z")


class Option(NamedTuple):
    """``metavar`` says what it takes, as help does; empty for a flag. ``names``: the one to offer first."""

    names: tuple[str, ...]
    metavar: str
    choices: tuple[str, ...]
    many: bool
    help: str


class Verb(NamedTuple):
    """``arguments`` by their metavars, of which the last may take all that follows (``rest``). ``mixed``:
    options may come behind them. ``dashes``: an option may be spelled with ``_``."""

    help: str
    options: tuple[Option, ...] = ()
    arguments: tuple[str, ...] = ()
    rest: bool = False
    mixed: bool = True
    dashes: bool = False

    def option(self, name: str) -> Option | None:
        name = name.replace("_", "-") if self.dashes else name
        return next((each for each in self.options if name in each.names), None)


Grammar = dict[str, Verb]
"""By their names as they are typed, ``sandbox up``; the program itself is the empty one."""


def grammar() -> Grammar:
    """As it was kept, where it is this program's."""
    path = _kept_in()
    state = _state()
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["state"] == state:
            return {
                name: Verb(each[0], tuple(_option(one) for one in each[1]), tuple(each[2]), *each[3:])
                for name, each in told["verbs"].items()
            }
    found = read()
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.write_text(json.dumps({"state": state, "verbs": found}), encoding="utf-8")
        partial.replace(path)
    return found


def read() -> Grammar:
    """Of the program itself."""
    import typer

    from clusterctl.cli.app import app

    found: Grammar = {}
    _add(found, "", typer.main.get_command(app))
    return found


def _add(found: Grammar, name: str, command: Any) -> None:
    context = command.context_class(command, info_name=name, **(command.context_settings or {}))
    context.help_option_names = ["-h", "--help"]
    params = command.get_params(context)
    arguments = [each for each in params if each.param_type_name == "argument"]
    found[name] = Verb(
        help=command.get_short_help_str(200),
        options=tuple(
            _option_of(each, context)
            for each in params
            if each.param_type_name == "option" and not each.hidden
        ),
        arguments=tuple(str(each.metavar) for each in arguments),
        rest=bool(arguments) and arguments[-1].nargs == -1,
        mixed=bool(context.allow_interspersed_args),
        dashes=context.token_normalize_func is not None,
    )
    for inner, each in getattr(command, "commands", {}).items():
        _add(found, f"{name} {inner}".strip(), each)


def _option_of(option: Any, context: Any) -> Option:
    words, said = option.get_help_record(context) or ("", "")
    choices = _CHOICES.search(words)
    names = sorted(option.opts, key=lambda name: not name.startswith("--"))
    return Option(
        names=(*names, *option.secondary_opts),
        metavar="" if option.is_flag else option.metavar or "VALUE",
        choices=tuple(choices[1].split("|")) if choices and not option.is_flag else (),
        many=option.multiple,
        help=" ".join(said.split()),
    )


def _option(told: list[Any]) -> Option:
    return Option(tuple(told[0]), told[1], tuple(told[2]), told[3], told[4])


def _kept_in() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "clusterctl" / "verbs.json"


def _state() -> list[Any]:
    """What changes with the program's files."""
    here = Path(__file__).parents[1]
    files = [each for each in os.scandir(here) if each.name.endswith(".py")]
    return [__version__, str(here), max(each.stat().st_mtime_ns for each in files), len(files)]

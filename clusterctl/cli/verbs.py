"""The group of all verbs, of which only the one that is typed is loaded."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup

from clusterctl.cli.conversion import quickened


class Verbs(TyperGroup):
    """Knows each verb by where its function is and by what `typer.Typer.command` is to be told of it."""

    places: ClassVar[dict[str, str]] = {}
    settings: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()

    def get_params(self, ctx: Any) -> list[Any]:
        return quickened(super().get_params(ctx))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, told["short_help"]) for name, told in self.settings.items()])


class _Commands(MutableMapping[str, Any]):
    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, Verbs.places[name], Verbs.settings[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(Verbs.places)

    def __len__(self) -> int:
        return len(Verbs.places)


def _load(name: str, place: str, settings: dict[str, Any]) -> Any:
    module, _, attribute = place.partition(".")
    found = getattr(import_module(f"clusterctl.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        one = typer.Typer(add_completion=False, rich_markup_mode=None)
        one.command(name, **settings)(found)
        found = one
    return typer.main.get_command(found)

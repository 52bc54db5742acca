"""Help texts: usage as it is typed, and examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from clusterctl.cli.conversion import quickened

if TYPE_CHECKING:
    from clusterctl.errors import ClusterctlError


class _Command(TyperCommand):
    examples: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = {}
    unknown_option: Callable[[str], ClusterctlError | None] | None = None

    def get_params(self, ctx: Any) -> list[Any]:
        return quickened(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        typed = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            name = getattr(error, "option_name", "") if hasattr(error, "possibilities") else ""
            explain = type(self).unknown_option
            if name and explain is not None:
                alike = (word.partition("=")[0] for word in typed)
                spelled = next((word for word in alike if word.replace("_", "-") == name), name)
                if explained := explain(spelled):
                    raise explained from None
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = ["[OPTIONS]"] * any(each.param_type_name == "option" for each in self.get_params(ctx))
        return pieces + [_name(each) for each in self.get_params(ctx) if each.param_type_name == "argument"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        params = self.get_params(ctx)
        arguments = [
            (_name(each), getattr(each, "help", None) or "")
            for each in params
            if each.param_type_name == "argument"
        ]
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": arguments}
        sections.update({title: [] for title in (*self.groups, "Options")})
        place = {name: at for names in self.groups.values() for at, name in enumerate(names)}
        titles = {name: title for title, names in self.groups.items() for name in names}
        synonyms = []
        for each in sorted(params, key=lambda each: place.get(each.name, len(place))):
            if each.param_type_name == "option" and (row := _record(each, ctx)):
                sections[titles.get(each.name, "Options")].append(row)
                first, *others = _long(each)
                synonyms += [(first, ", ".join(others))] if others else []
        if synonyms:
            sections["Other names, also spelled with _"] = synonyms
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=26)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"  {line}\n")


def _long(option: Any) -> list[str]:
    """Its long names, the one that is shown first."""
    return [name for name in option.opts if name.startswith("--")] or [option.opts[0]]


def _record(option: Any, ctx: Any) -> tuple[str, str] | None:
    """Its line of the help text, with the first of its long names only."""
    every = option.opts
    option.opts = [name for name in every if not name.startswith("--") or name == _long(option)[0]]
    try:
        record: tuple[str, str] | None = option.get_help_record(ctx)
        return record
    finally:
        option.opts = every


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def command(
    *examples: str,
    groups: Mapping[str, tuple[str, ...]] | None = None,
    unknown_option: Callable[[str], ClusterctlError | None] | None = None,
) -> type[TyperCommand]:
    """The class of a verb whose help ends with ``examples``, lines to paste. ``groups``: the options of each
    section, by their parameters; those in none come last. ``unknown_option`` may explain one."""
    own = {"examples": examples, "groups": groups or {}, "unknown_option": unknown_option}
    return type("Command", (_Command,), own)

"""Help texts: usage as it is typed, and examples."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class _Command(TyperCommand):
    examples: tuple[str, ...] = ()

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
        options = [each.get_help_record(ctx) for each in params if each.param_type_name == "option"]
        for title, rows in (("Arguments", arguments), ("Options", [row for row in options if row])):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"  {line}\n")


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def command(*examples: str) -> type[TyperCommand]:
    """The class of a verb whose help ends with ``examples``, lines to paste."""
    return type("Command", (_Command,), {"examples": examples})

"""What is typed becomes what a verb takes, without typer's converters where it is that already: they are
pydantic's, which takes longer to load than everything else that it takes to understand a command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Quick:
    """In the place of a parameter's converter: most values are texts that stay texts, and defaults."""

    def __init__(self, load: Callable[[], Any]) -> None:
        """``load`` makes the converter itself."""
        self._load = load

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        several = param.multiple or param.nargs == -1
        wanted = param.type_descriptor.annotation
        if value is None:
            return () if several else None
        if several and wanted == list[str] and all(isinstance(each, str) for each in value):
            return list(value)
        if not several and (type(value) is wanted or value == param.default):
            return value
        if wanted is int and param.min is None and param.max is None and _is_plain_number(value):
            return int(value)
        return self._load().coerce(value, param=param, ctx=ctx)


def _is_plain_number(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdecimal()


def quickened(parameters: list[Any]) -> list[Any]:
    """The same, from now on converted so. Versions of typer that load no pydantic have nothing to replace."""
    for param in parameters:
        load = getattr(param, "get_runtime_param", None)
        if load is not None and "get_runtime_param" not in vars(param):
            param.get_runtime_param = lambda quick=Quick(load): quick
    return parameters

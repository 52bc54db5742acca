"""What one version of DeepSpeed accepts in its config, as `node/deepspeed_schema.py` tells it."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["bool", "int", "float", "str", "dict", "list", "choice", "section", "null", "any"]
Adam = Literal["torch", "gpu", "cpu"]
"""torch's own, or DeepSpeed's for an optimizer on a GPU or offloaded to RAM."""


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """``instead`` is what has taken the place of a deprecated one."""

    name: str
    alias: str = ""
    kinds: tuple[Kind, ...]
    choices: tuple[int | str, ...] = ()
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    deprecated: bool = False
    instead: str = ""
    section: Section | None = None

    @property
    def key(self) -> str:
        """As it is documented."""
        return self.alias or self.name


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """An object with a model of its own; ``forbids``: it refuses keys that it does not know."""

    forbids: bool
    fields: tuple[Field, ...]

    def field(self, key: str) -> Field | None:
        return next((each for each in self.fields if key in (each.name, each.alias)), None)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(each.key for each in self.fields)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a class that a config names."""

    all: tuple[str, ...]
    required: tuple[str, ...]


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """``strict`` sections have models; ``loose`` ones are read key by key, and what else they hold is
    ignored."""

    version: str
    top: tuple[str, ...]
    removed: tuple[str, ...]
    removed_zero: tuple[str, ...]
    strict: dict[str, Section]
    loose: dict[str, tuple[str, ...]]
    optimizers: tuple[str, ...]
    torch_optimizers: dict[str, Call]
    adam: dict[Adam, tuple[str, ...]]
    schedulers: dict[str, Call]
    torch_schedulers: dict[str, Call]


def decode(data: bytes) -> Schema:
    """Raises msgspec.MsgspecError."""
    return msgspec.json.decode(data, type=Schema)

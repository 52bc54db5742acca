"""Where verbs print: results to stdout, everything else to stderr. NO_COLOR is honoured (by rich)."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from clusterctl.errors import ClusterctlError

if TYPE_CHECKING:
    from rich.console import Console

    from clusterctl.inventory.model import Inventory


@functools.cache
def out() -> Console:
    """The console on stdout. Made on first use: rich costs more than `--help` may take."""
    from rich.console import Console

    class Patient(Console):
        def on_broken_pipe(self) -> None:
            unseen()

    return Patient(highlight=False, soft_wrap=True)


def unseen() -> None:
    """Nobody reads stdout any more (`launch | head`): what is still written there goes nowhere, and the
    work goes on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@functools.cache
def err() -> Console:
    """The console on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_error(error: ClusterctlError) -> None:
    """``error: what is true`` and ``hint: what to do``, on stderr."""
    complain("error", error.message, error.hint)


def print_warnings(inventory: Inventory) -> None:
    """Lines of the hostfile that DeepSpeed misreads, on stderr."""
    for warning in inventory.warnings:
        complain("warning", f"{warning.where}: {warning.message}", warning.hint)


def complain(kind: str, message: str, hint: str = "") -> None:
    """One message on stderr, in the form all messages have. ``kind`` is ``error`` or ``warning``."""
    from rich.text import Text

    style = "bold red" if kind == "error" else "yellow"
    err().print(Text.assemble((f"{kind}: ", style), message))
    if hint:
        err().print(Text.assemble(("hint: ", "cyan"), hint))

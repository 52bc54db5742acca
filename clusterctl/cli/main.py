"""The program `clusterctl`: the one place where errors and Ctrl-C become text and exit codes."""

from __future__ import annotations

import re
import sys
from typing import Any

from clusterctl.cli.interrupts import EXIT_INTERRUPTED, Interrupts
from clusterctl.errors import ClusterctlError, UsageError

EXIT_USAGE = 64
EXIT_FAULT = 125
_FOREIGN = re.compile("Input should be ")
"""How the library that converts options begins what it has to say of a value."""


def entry() -> None:
    """The console script. Each error knows its exit code; an interrupt is 130, an unexpected exception 125.

    What could not be printed changes no exit code but 0, and not that of a run.
    """
    interrupts = Interrupts()
    interrupts.install()
    try:
        code = _printed(_run())
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    if interrupts.exit_code is None:
        interrupts.exit_code = code
    sys.exit(interrupts.exit_code)


def _run() -> int:
    # Not at the top: loading takes a while, in which Ctrl-C is as likely as later.
    import typer

    from clusterctl.cli import streams
    from clusterctl.cli.app import WrongUsage, app

    streams.settle()
    try:
        return app(prog_name="clusterctl", standalone_mode=False) or 0
    except ClusterctlError as error:
        _say(error)
        return error.exit_code
    except WrongUsage as error:
        _say_usage(error)
        return EXIT_USAGE
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:  # noqa: BLE001 (the one place: nobody is shown a traceback)
        return _unexpected(error)


def _printed(code: int) -> int:
    from clusterctl.cli import streams

    unwritten = streams.lost(sys.stdout)
    if unwritten is None:
        return code
    _say(ClusterctlError(f"stdout cannot be written: {unwritten.strerror}", hint="not all of it is there"))
    return code or EXIT_FAULT


def _unexpected(error: Exception) -> int:
    from clusterctl import __version__
    from clusterctl.cli.fault import explain

    verb = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1].isalpha() else ""
    _say(explain(error, __version__, verb))
    return EXIT_FAULT


def _say_usage(error: Any) -> None:
    """What typer has to say of the words, as every other error is said; a whole help text as it is."""
    text = error.format_message()
    if "\n" in text:
        error.show(sys.stderr)
        return
    text = _FOREIGN.sub("must be ", text).partition(", unable to parse")[0]
    text = text.replace("Value error, ", "").replace("a valid integer", "a whole number").rstrip(".")
    command = error.ctx.command_path if getattr(error, "ctx", None) else "clusterctl"
    _say(UsageError(text[:1].lower() + text[1:], hint=f"{command} -h"))


def _say(error: ClusterctlError) -> None:
    from clusterctl.cli.screen import print_error

    print_error(error)

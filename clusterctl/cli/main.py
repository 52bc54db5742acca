"""The program `clusterctl`: the one place where errors and Ctrl-C become text and exit codes.

To import it is to begin: whoever presses Ctrl-C while python or pip's console script still load sees no
traceback of theirs. So all that it needs is imported where that is needed.
"""

from __future__ import annotations

import gc
import os
import sys

from clusterctl.cli.interrupts import EXIT_INTERRUPTED, Interrupts

_interrupts = Interrupts(EXIT_INTERRUPTED)
_interrupts.install()

TYPE_CHECKING = False  # typing's own costs a fifth of the time until here
if TYPE_CHECKING:
    from typing import Any

    from clusterctl.errors import ClusterctlError

EXIT_USAGE = 64
EXIT_FAULT = 125
_OBJECTS = 100_000
"""So many new ones, before python looks for cycles: at its own 700 that is a fifth of all loading."""


def entry() -> None:
    """The console script. Each error knows its exit code; an interrupt is 130, an unexpected exception 125.

    What could not be printed changes no exit code but 0, and not that of a run.
    """
    gc.set_threshold(_OBJECTS, 20, 20)
    try:
        _interrupts.exit_code = None
        code = _printed(_run())
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    if _interrupts.exit_code is None:
        _interrupts.exit_code = code
    gc.freeze()  # nor does it look for any among all that is here, for nobody, before the process ends
    sys.exit(_interrupts.exit_code)


def _run() -> int:
    from clusterctl.cli.completing import ASKED

    if ASKED in os.environ:
        from clusterctl.cli.completing.answer import answer

        answer(os.environ, sys.argv[1:])
        return 0
    import typer

    from clusterctl.cli import streams
    from clusterctl.cli.app import WrongUsage, app
    from clusterctl.errors import ClusterctlError

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
    from clusterctl.errors import ClusterctlError

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
    from clusterctl.errors import UsageError

    text = error.format_message()
    if "\n" in text:
        error.show(sys.stderr)
        if len(sys.argv) == 1:
            _show_first_steps()
        return
    # As the library that converts options has it.
    text = text.replace("Input should be ", "must be ").partition(", unable to parse")[0]
    text = text.replace("Value error, ", "").replace("a valid integer", "a whole number").rstrip(".")
    command = error.ctx.command_path if getattr(error, "ctx", None) else "clusterctl"
    _say(UsageError(text[:1].lower() + text[1:], hint=f"{command} -h"))


def _say(error: ClusterctlError) -> None:
    from clusterctl.cli.screen import print_error
    from clusterctl.errors import NoHostsError

    print_error(error)
    if isinstance(error, NoHostsError):
        _show_first_steps()


def _show_first_steps() -> None:
    from clusterctl.cli import first_steps

    first_steps.show()

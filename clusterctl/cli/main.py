"""`clusterctl`: one verb a file, and the one place where errors become text and exit codes."""

from __future__ import annotations

import sys

import typer

from clusterctl import __version__
from clusterctl.cli import doctor, env, init, launch, logs, pull, runs, sandbox
from clusterctl.cli import exec as exec_
from clusterctl.errors import ClusterctlError

EXIT_USAGE = 64
EXIT_FAULT = 125

# typer carries a click of its own since 0.26 and used the installed one before: ask it for the class.
_WrongUsage: type[typer.BadParameter] = typer.BadParameter.__mro__[2]  # ClickException

app = typer.Typer(
    name="clusterctl",
    help="Check a handful of GPU machines over SSH, train across all of them, and learn what went wrong.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PASS_ON = {"allow_interspersed_args": False}

app.command("doctor", help="Check every host over SSH: is this a cluster that can train?")(doctor.command)
app.command("launch", help="Train on all hosts: SCRIPT, or the shipped workload.", context_settings=_PASS_ON)(
    launch.command
)
app.command("logs", help="Show what the ranks of a run printed.")(logs.command)
app.command("runs", help="List runs, newest last.")(runs.list_command)
app.command("status", help="How a run stands, host by host.")(runs.status_command)
app.command("stop", help="Stop a run on all hosts.")(runs.stop_command)
app.command("pull", help="Bring outputs of a run back from the hosts.")(pull.command)
app.command("env", help="Print the variables of one host, for a start by hand.")(env.command)
app.command("exec", help="Run one command on all hosts, fold equal answers.", context_settings=_PASS_ON)(
    exec_.command
)
app.command("init", help="Write a hostfile: asks each host for its GPUs.")(init.command)
app.add_typer(sandbox.app, name="sandbox", help="Virtual hosts with real sshd on this machine.")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"clusterctl {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    return


def entry() -> None:
    """The console script. Wrong usage is 64 in every verb; an interrupt is 130; our own fault is 125.

    What could not be printed changes no exit code but 0, and not that of a run.
    """
    from clusterctl.cli import streams

    streams.settle()
    try:
        code = app(standalone_mode=False) or 0
    except ClusterctlError as error:
        _say(error)
        code = error.exit_code
    except _WrongUsage as error:
        error.show(sys.stderr)
        code = EXIT_USAGE
    except (typer.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        code = 130
    unwritten = streams.lost(sys.stdout)
    if unwritten is not None:
        _say(
            ClusterctlError(f"stdout cannot be written: {unwritten.strerror}", hint="not all of it is there")
        )
        code = code or EXIT_FAULT
    sys.exit(code)


def _say(error: ClusterctlError) -> None:
    from clusterctl.cli.screen import print_error

    print_error(error)

"""`clusterctl completion`: what TAB offers, in the user's shell."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def command(
    shell: Annotated[
        Literal["bash", "zsh", "fish"] | None,
        typer.Argument(metavar="[bash|zsh|fish]", help="Default: that of $SHELL."),
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Put it where the shell finds it, and say where that is.")
    ] = False,
) -> None:
    """Print the script by which TAB completes verbs, options, hosts, runs, ranks, clusters and files.

    Completion reads files of this machine only and asks no host.
    """
    import os
    from pathlib import Path

    from clusterctl.cli import screen
    from clusterctl.cli.completing import scripts
    from clusterctl.errors import ClusterctlError, UsageError

    named = shell or Path(os.environ.get("SHELL", "")).name
    if named not in scripts.SCRIPTS:
        raise UsageError("no shell of which completion is known", hint="clusterctl completion bash|zsh|fish")
    program = scripts.program()
    if not install:
        typer.echo(scripts.script(named, program), nl=False)
        return
    try:
        written = scripts.install(named, program)
    except OSError as error:
        raise ClusterctlError(
            f"{error.filename} cannot be written: {error.strerror}",
            hint=f"clusterctl completion {named} prints it, for a file of your own",
        ) from error
    for path in written:
        screen.out().print(f"wrote {screen.at_home(path)}", markup=False)
    screen.out().print(f"a new {named} has it", markup=False)

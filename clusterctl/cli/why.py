"""`clusterctl why`: what a run failed of, in words, and what to do."""

from __future__ import annotations

import typer

from clusterctl.cli import options
from clusterctl.cli.runs import Run


def command(run: Run = "", as_json: options.Json = False) -> None:
    """Explain how a run ended: its cause in words, what to do, and what only followed from it.

    Which rank was first is decided by what happened, not by texts; what it means, by the signatures that
    docs/why.md lists. Where none fits, the last lines and the traceback are shown, and nothing is guessed.
    """
    import msgspec

    from clusterctl.cli import screen
    from clusterctl.report.attempts import earlier
    from clusterctl.report.pace import no_number, pace
    from clusterctl.report.why import page
    from clusterctl.session.why import why
    from clusterctl.store.metrics import newest_steps
    from clusterctl.store.runs import find_run

    directory = find_run(run or None)
    outcome = directory.outcome()
    found = why(directory, outcome=outcome)
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    for line in earlier(outcome) if outcome is not None else ():
        screen.show(line)
    screen.show(page(found, screen.at_home(directory.path)))
    if said := no_number(pace(newest_steps(directory.path))):
        screen.show(f"but {said}")

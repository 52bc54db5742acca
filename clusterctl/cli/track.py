"""`clusterctl track`: a run's metrics to W&B or trackio."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated, cast

import typer

from clusterctl.cli.runs import Run
from clusterctl.session.trackers import TrackerName

if TYPE_CHECKING:
    from clusterctl.session.tracking import Sent


def command(
    run: Run = "",
    to: Annotated[
        TrackerName | None, typer.Option("--to", help="Default: what [track] in config.toml says, or wandb.")
    ] = None,
) -> int:
    """Send what a run has told of its steps to W&B or trackio, from its first step to its end.

    `launch --track` does so while the run lives. One run there, by the run's id: its merged metrics, its plan
    without secrets, how it ended; what was sent before is not sent again. W&B is asked as its own
    variables and its login say (WANDB_MODE=offline keeps it all in the run's directory).
    """
    from clusterctl.cli import screen
    from clusterctl.errors import ClusterctlError, in_words
    from clusterctl.session import clusters
    from clusterctl.session.tracking import send
    from clusterctl.store.runs import find_run

    name = to or cast(TrackerName, clusters.tracking().to or "wandb")

    def told(sent: Sent) -> None:
        screen.out().print(f"{name}: {sent.where}")

    try:
        sent = send(find_run(run or None), name, told, signal.alarm)
    except (ClusterctlError, KeyboardInterrupt):
        raise
    except Exception as error:  # of whatever kind the library's are
        raise ClusterctlError(
            f"{name}: {in_words(error)}", hint=f"{name} itself says more; WANDB_MODE=offline sends nothing"
        ) from error
    screen.out().print("nothing was told of any step" if sent.step < 0 else f"sent to step {sent.step}")
    return 0

"""What is done once a run is over and its outcome told: desktop and page, then the user's own command."""

from __future__ import annotations

from collections.abc import Callable

from clusterctl.errors import ClusterctlError, in_words
from clusterctl.plan.model import LaunchPlan
from clusterctl.run import notify, on_end
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory


def conclude(
    plan: LaunchPlan,
    directory: RunDirectory,
    outcome: Outcome,
    say: Callable[[str], None],
    *,
    unwritten: str = "",
) -> None:
    """Nothing of it changes how the run ended. ``say`` hears what went wrong; ``unwritten``: why the outcome
    is not in ``directory``, where nothing more is written then."""
    if not unwritten:
        notify.carry_out(plan, directory, outcome, say)
        _page(directory, say)
    on_end.carry_out(plan, directory, outcome, say, unwritten=unwritten)


def _page(directory: RunDirectory, say: Callable[[str], None]) -> None:
    # Not at the top: templates take a while to load, which nobody should wait for before the run is over.
    from clusterctl.session.report import write_page

    try:
        write_page(directory)
    except (ClusterctlError, OSError) as error:
        say(f"its page was not written: {error}")
    except Exception as error:  # noqa: BLE001 (a page is worth no run's exit code)
        say(f"its page was not written, which is a fault of clusterctl's: {in_words(error)}")

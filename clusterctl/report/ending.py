"""How a run ended, for somebody who is tired: the cause first, then what to do. No I/O."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from clusterctl.advise.explain import Explanation
from clusterctl.inventory.fold import fold
from clusterctl.plan.model import LaunchPlan
from clusterctl.report import attempts, run_view, runs
from clusterctl.report.attempts import duration
from clusterctl.report.findings import brief
from clusterctl.report.harmless import harmless
from clusterctl.report.pull import size
from clusterctl.report.why import after, echo_in_words, hint, quoted, seen
from clusterctl.settings import RUN
from clusterctl.store.outcome import Cause, Outcome

_SHOWN_LINES = 8
_ECHOES = 2
_WARNINGS = 2


def closing(
    plan: LaunchPlan,
    outcome: Outcome,
    directory: Path,
    *,
    last_lines: Sequence[str] = (),
    places: Mapping[str, str] | None = None,
    found: Explanation | None = None,
) -> RenderableType:
    """What happened where and whose exit code it is, then logs, what is left, files, and what to type next.

    ``last_lines`` end the log of the rank that failed. ``places``: host -> the directory its ranks ran in;
    without it neither files nor next steps are shown, nor for a run that was refused: its hint says enough.
    ``found`` is what all that means: its words stand in place of what is recorded.
    """
    cause = outcome.cause
    parts: list[RenderableType] = [Text(), *attempts.earlier(outcome), _title(outcome, found)]
    if found is not None and found.hint:
        parts.append(hint(found.hint))
    if found is not None:
        hung = outcome.status == "hung"
        telling = [each for each in found.confirmations if hung or each.code.startswith("watch.")]
        parts += [seen(each) for each in telling[:_WARNINGS]]
    if outcome.exit_code:
        parts.append(_row("exit", f"{outcome.exit_code}{_meaning(outcome)}"))
    if outcome.no_restart:
        parts.append(Text.assemble(("again ", "dim"), f"no: {outcome.no_restart}"))
    parts += [quoted(line) for line in _last_words(cause, last_lines)]
    if cause is not None and cause.log and outcome.status != "succeeded":
        parts.append(_row("log", str(directory / cause.log)))
    # Of what our signal ended, nothing is news.
    if outcome.collateral and outcome.status not in ("stopped", "timeout", "hung"):
        parts.append(Text.assemble(("also  ", "dim"), _collateral(outcome, found)))
    if told := attempts.times(outcome):
        parts.append(Text.assemble(("time  ", "dim"), told))
    parts.append(_left(outcome))
    logs = _row("logs", str(directory / "logs"))
    damaged = _damaged(outcome) if places is None or places else []  # nothing ran: nothing can be missing
    parts.append(Text.assemble(logs, *damaged, no_wrap=True, overflow="ignore"))
    ran = outcome.status != "refused"
    if places and ran:
        parts += _files(plan, places)
    more = _hint(plan, outcome)
    if more:
        parts.append(hint(more))
    if places is not None and ran:
        run = run_view.view(plan, outcome, started=0.0, supervised=False)
        if places or outcome.status != "succeeded":
            pull = runs.what_pull_does(plan, places.values())
            parts.append(runs.next_steps(run, outcome, pull=pull, logs=False))
    return Group(*parts)


def wants_last_lines(outcome: Outcome) -> bool:
    """Whether the log of the rank that failed says more than the outcome does."""
    cause = outcome.cause
    return cause is not None and bool(cause.log) and not cause.traceback and outcome.status != "succeeded"


def _row(label: str, value: str) -> Text:
    return Text.assemble((f"{label:<6}", "dim"), value, no_wrap=True, overflow="ignore")


def _title(outcome: Outcome, found: Explanation | None) -> Text:
    mark = ("✓ ", "bold green") if outcome.status == "succeeded" else ("✗ ", "bold red")
    title = Text.assemble(mark, (outcome.status, "bold"), f" after {duration(outcome.seconds)}")
    if len(outcome.attempts) > 1:
        title.append(f", attempt {outcome.attempts[-1].attempt}")
    if outcome.cause is not None:
        words = found.means if found is not None and found.means else outcome.cause.message
        title.append(after(outcome.status, outcome.cause, words))
    return title


def _last_words(cause: Cause | None, last_lines: Sequence[str]) -> list[str]:
    text = cause.traceback.rstrip().splitlines() if cause is not None and cause.traceback else [*last_lines]
    return text[-_SHOWN_LINES:]


def _collateral(outcome: Outcome, found: Explanation | None) -> str:
    """One line: what says the same as the cause, and most of what only followed."""
    if found is None or not found.cascades:
        hosts = dict.fromkeys(cause.host for cause in outcome.collateral if cause.host)
        count = f"{len(outcome.collateral)} other failure{'s' * (len(outcome.collateral) > 1)}"
        return f"{count}{f' on {brief(hosts)}' if hosts else ''} came after it"
    told = "; ".join(echo_in_words(echo) for echo in found.cascades[:_ECHOES])
    more = sum(echo.count for echo in found.cascades[_ECHOES:])
    return f"{told}; {more} more" if more else told


def _left(outcome: Outcome) -> Text:
    told = {host: count for host, count in outcome.left_behind.items() if count is not None}
    total = sum(told.values())
    text = Text.assemble(("left  ", "dim"))
    text.append(
        f"{total} process{'es' * (total != 1)} left on {_those_with(told) or _how_many(told, outcome)}",
        style="" if total == 0 and len(told) == len(outcome.left_behind) else "bold yellow",
    )
    silent = [host for host, count in outcome.left_behind.items() if count is None]
    if silent:
        text.append(f"; not confirmed on {brief(silent)}", style="bold yellow")
    return text


def _those_with(told: Mapping[str, int]) -> str:
    """The hosts on which something is left, by name."""
    return brief([host for host, count in told.items() if count]) if any(told.values()) else ""


def _how_many(told: Mapping[str, int], outcome: Outcome) -> str:
    everywhere = len(outcome.left_behind)
    return f"{len(told)} of {everywhere} host{'' if everywhere == 1 else 's'}"


def _damaged(outcome: Outcome) -> list[tuple[str, str]]:
    if outcome.incomplete_anywhere:
        return [(f"  (not complete: {brief(outcome.incomplete_anywhere)})", "bold yellow")]
    if outcome.cut_logs:
        logs = f"{len(outcome.cut_logs)} log{'s' * (len(outcome.cut_logs) > 1)}"
        cut = size(sum(outcome.cut_logs.values()))
        return [(f"  (complete, but for {cut} cut out of the middle of {logs}: --log-limit)", "yellow")]
    return [("  (complete to the last byte)", "dim")]


def _files(plan: LaunchPlan, places: Mapping[str, str]) -> list[RenderableType]:
    found = runs.folded_places(plan.run, places)
    return [
        _row("files" if number == 0 else "", f"{brief(hosts)}:{place}  ({_kind(plan, place)})")
        for number, (place, hosts) in enumerate(found.items())
    ]


def _kind(plan: LaunchPlan, place: str) -> str:
    return "a copy" if plan.is_copy(place) else "in place"


def _other_slots(outcome: Outcome) -> str:
    holder = outcome.cause.holder if outcome.cause else ""
    if not holder:
        return "clusterctl runs --status running; --include chooses other slots"
    stop = f"clusterctl stop {shlex.quote(harmless(holder))}"
    return f"{stop} ends that run, where it was launched; --include chooses other slots"


def _hint(plan: LaunchPlan, outcome: Outcome) -> str:
    if outcome.status == "refused":
        return _other_slots(outcome)
    silent = [host for host, count in outcome.left_behind.items() if count is None]
    if silent:
        lease = runs.span(RUN.lease(plan.on_disconnect))
        own = f"{lease} after the last word from here a host ends its ranks itself"
        return f"{own}; look: clusterctl exec -i {_selection(silent)} -- ps -ef"
    left = [host for host, count in outcome.left_behind.items() if count]
    if left:
        why = "it waits in the kernel (a disk, NFS, a driver), is another user's, or bears no mark of the run"
        return f"{why}; look: clusterctl exec -i {_selection(left)} -- ps -eo pid,user,stat,wchan,args"
    return ""


def _selection(hosts: Sequence[str]) -> str:
    return "@".join(hosts) if len(hosts) > 1 else fold(hosts)


def _meaning(outcome: Outcome) -> str:
    """Whose exit code it is, where the title does not say it."""
    if outcome.status == "error":
        return ", clusterctl could not carry the run through"
    if outcome.status != "failed":
        return ""
    rank = outcome.cause.rank if outcome.cause is not None else None
    return ", the exit code of the engine" if rank is None else f", the exit code of rank {rank}"

"""The attempts that a run took before its last, a line each. No I/O."""

from __future__ import annotations

from rich.text import Text

from clusterctl.report.harmless import harmless
from clusterctl.report.why import after
from clusterctl.store.outcome import Attempt, Outcome

_SHOWN = 5


def earlier(outcome: Outcome) -> list[Text]:
    """All but the last; of many, the newest."""
    before = outcome.attempts[:-1]
    lines = [Text.assemble((f"attempt {each.attempt}  ", "dim"), _line(each)) for each in before[-_SHOWN:]]
    if len(before) > len(lines):
        lines.insert(0, Text(f"… {len(before) - len(lines)} attempts before: outcome.json", style="dim"))
    return lines


def times(outcome: Outcome) -> str:
    """What the time of several attempts went into, on one line; empty for one attempt."""
    spent = outcome.spent
    if spent is None or len(outcome.attempts) < 2:
        return ""
    at_most = "at most " if spent.detection_at_most else ""
    lost = f"detection {at_most}{duration(spent.detection)}, stop {duration(spent.stop)}"
    if spent.share is None or spent.productive is None or spent.start is None or spent.lost is None:
        return f"{lost}; its logs tell of no steps, so the productive share is unknown"
    steps = f"{spent.lost_steps} steps again {duration(spent.lost)}" if spent.lost_steps else "no step lost"
    rest = f"start {duration(spent.start)}, {lost}, {steps}"
    return f"{spent.share:.0%} of {duration(spent.seconds)} trained; {rest}"


def _line(attempt: Attempt) -> str:
    steps = ""
    if attempt.last_step is not None:
        begun = f"{attempt.first_step} to " if attempt.first_step != attempt.last_step else ""
        steps = f", steps {begun}{attempt.last_step}" if begun else f", step {attempt.last_step}"
    message = attempt.cause.message.splitlines() if attempt.cause else []
    cause = after(attempt.status, attempt.cause, message[0]) if attempt.cause and message else ""
    return harmless(f"{attempt.status} after {duration(attempt.seconds)}{steps}{cause}")


def duration(seconds: float) -> str:
    """Such as ``41.2 s``, ``3m 05s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m {rest:02}s" if hours else f"{minutes}m {rest:02}s"

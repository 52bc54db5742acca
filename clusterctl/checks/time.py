"""Clocks of the hosts against one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median_low

from clusterctl.checks.remedy import Remedy, install, shell
from clusterctl.checks.rule import Evidence, Hit, NotKnown, Rule, Verdict

SKEW_WARN = 5.0


def _skew(evidence: Evidence) -> Iterator[Verdict]:
    """Against the hosts' own middle: a laptop with a wrong clock must not accuse the whole cluster."""
    offsets: dict[str, float] = {}
    for host, facts in evidence.facts.items():
        if facts.clock_offset is None:
            yield NotKnown(host, "its clock was not read")
        else:
            offsets[host] = facts.clock_offset
    if len(offsets) < 2:
        return
    errors = {host: evidence.facts[host].clock_error or 0.0 for host in offsets}
    right = _right(offsets, errors)
    if right is None:
        apart = max(offsets.values()) - min(offsets.values())
        yield Hit(
            hosts=tuple(offsets),
            observed=f"their clocks are up to {_span(apart)} apart",
            expected=f"within {SKEW_WARN:g} s of one another",
        )
        return
    for host, offset in offsets.items():
        skew = offset - right
        if abs(skew) - errors[host] > SKEW_WARN:
            way = "ahead" if skew > 0 else "behind"
            yield Hit(
                hosts=(host,),
                observed=f"its clock is {_span(abs(skew))} {way}",
                expected=f"within {SKEW_WARN:g} s of the others",
                fix=_synchronised(evidence.facts[host].os_release),
                cause=way,
            )


def _synchronised(os_release: str) -> Remedy:
    daemon = install(os_release, apt="chrony", dnf="chrony")
    return shell("sudo timedatectl set-ntp true", instead=(daemon.text,))


def _right(offsets: Mapping[str, float], errors: Mapping[str, float]) -> float | None:
    """The offset that more than half of the hosts agree on; without one, this machine's own clock where some
    host agrees with it. None where nobody can say who is right."""
    middle = median_low(offsets.values())
    near = [
        [host for host, offset in offsets.items() if abs(offset - right) - errors[host] <= SKEW_WARN]
        for right in (middle, 0.0)
    ]
    if len(near[0]) * 2 > len(offsets):
        return middle
    return 0.0 if near[1] else None


def _span(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


RULES: tuple[Rule, ...] = (
    Rule(
        code="time.skew",
        severity="warn",
        looks_at="every host's clock against the others'",
        judge=_skew,
        symptom="logs of different hosts cannot be ordered, and an elastic rendezvous evicts the host",
        fix="install chrony, or sudo timedatectl set-ntp true",
    ),
)

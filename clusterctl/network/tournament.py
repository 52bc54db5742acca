"""Who is paired with whom: every host in one pair a round, so that no two measurements share a host. Pure."""

from __future__ import annotations

from collections.abc import Sequence

Pair = tuple[str, str]

ALL_PAIRS_UP_TO = 9
SAMPLED_ROUNDS = 4


def rounds(hosts: Sequence[str]) -> tuple[tuple[Pair, ...], ...]:
    """Every pair once where the hosts are few, else some rounds, evenly spread. One host rests where their
    number is odd."""
    circle: list[str] = list(hosts) + [""] * (len(hosts) % 2)
    if len(circle) < 2:
        return ()
    found = []
    fixed, turning = circle[0], circle[1:]
    for turn in range(len(turning)):
        row = [fixed, *turning[turn:], *turning[:turn]]
        half = len(row) // 2
        pairs = zip(row[:half], reversed(row[half:]), strict=True)
        found.append(tuple((one, other) for one, other in pairs if one and other))
    if len(hosts) <= ALL_PAIRS_UP_TO:
        return tuple(found)
    step = len(found) / SAMPLED_ROUNDS
    return tuple(found[int(number * step)] for number in range(SAMPLED_ROUNDS))


def neighbours(hosts: Sequence[str]) -> tuple[Pair, ...]:
    """Every host in one pair; where their number is odd, the last has nobody."""
    return tuple(zip(hosts[::2], hosts[1::2], strict=False))


def second_pass(suspects: Sequence[str], passed: Sequence[str]) -> tuple[tuple[Pair, ...], ...]:
    """Each suspect again, with a host that passed."""
    if not passed:
        return ()
    found = []
    for first in range(0, len(suspects), len(passed)):
        found.append(tuple(zip(suspects[first : first + len(passed)], passed, strict=False)))
    return tuple(found)

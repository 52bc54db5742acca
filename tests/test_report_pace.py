"""What the newest steps of a run say on the screen of `status`."""

from __future__ import annotations

import math

import pytest

from clusterctl.report.pace import no_number, pace, text
from clusterctl.store.step import Step


def steps(count: int, *, seconds: tuple[float, ...] = (0.5, 0.5, 0.7), slow: int = 2) -> list[Step]:
    return [
        Step(
            attempt=1,
            step=number,
            time=100.0 + number,
            loss=10.0 - number / 10,
            tokens_per_s=412_000.0,
            step_s=sum(seconds) / len(seconds),
            step_s_max=max(seconds),
            step_s_ranks=seconds,
            slow_rank=slow,
            slow_host="node3",
        )
        for number in range(1, count + 1)
    ]


def test_a_slow_rank_is_named_with_its_host() -> None:
    found = pace(steps(20))
    assert found is not None
    assert text(found, age="3 s").plain.splitlines() == [
        "step  20, loss 8, 1.43 steps/s, 412k tokens/s, 3 s ago",
        "      slowest: rank 2 on node3, 0.7 s a step, the others 0.5 s",
    ]


@pytest.mark.parametrize(
    "told",
    [
        steps(4),
        steps(20, seconds=(0.5, 0.5, 0.52)),
        [*steps(10), *steps(20, slow=1)[10:], *steps(30, slow=0)[20:]],
        steps(20, seconds=(0.5,)),
    ],
)
def test_nobody_is_named_by_chance(told: list[Step]) -> None:
    found = pace(told)
    assert found is not None and found.slow_rank is None and found.slow_host is None


def test_only_the_newest_attempt_counts() -> None:
    found = pace([*steps(20), Step(attempt=2, step=11, time=500.0), Step(attempt=2, step=13, time=504.0)])
    assert found is not None
    assert (found.step, found.loss, found.steps_per_s) == (13, None, 0.5)
    assert text(found).plain == "step  13, 2 s a step"


def test_what_is_not_told_is_not_shown() -> None:
    assert pace([]) is None
    found = pace([Step(attempt=1, step=1, loss=math.nan, source="log:hf")])
    assert no_number(None) == no_number(pace(steps(20))) == ""
    assert found is not None and no_number(found).startswith("the loss is nan:")
    assert text(found).plain.startswith("step  1, loss nan  (read from its log)\n")
    assert "clusterctl report shows since which step" in text(found).plain

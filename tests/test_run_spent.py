"""Where the time of a run went: arithmetic."""

from __future__ import annotations

from typing import Any

import pytest

from clusterctl.run.spent import Timed, spent
from clusterctl.store.outcome import Spent


def parts(found: Spent) -> float:
    assert None not in (found.start, found.lost, found.productive)
    return sum((found.start or 0, found.detection, found.stop, found.lost or 0, found.productive or 0))


CALM: dict[str, Any] = {"began": 100.0, "ended": 200.0, "first_step": 1, "last_step": 90}


def test_a_calm_run_trains_from_its_first_step_to_its_end() -> None:
    found = spent([Timed(**CALM, first_at=110.0, last_at=199.0)])
    assert (found.seconds, found.start, found.productive, found.share) == (100.0, 10.0, 90.0, 0.9)
    assert (found.detection, found.stop, found.lost, found.lost_steps) == (0.0, 0.0, 0.0, 0)


def test_every_second_of_two_attempts_has_one_place() -> None:
    first = Timed(
        began=0.0,
        ended=80.0,
        first_step=1,
        last_step=45,
        first_at=11.0,
        last_at=55.0,
        failed=56.0,
        ordered=76.0,
    )
    second = Timed(
        began=80.0, ended=200.0, first_step=41, last_step=100, first_at=140.0, last_at=199.0, resumed_step=40
    )
    found = spent([first, second])
    assert (found.detection, found.stop, found.lost_steps) == (20.0, 4.0, 5)
    assert found.lost == 5.0, "a step a second"
    assert found.start == 11.0 + 60.0
    assert found.productive == 45.0 - 5.0 + 60.0
    assert parts(found) == pytest.approx(found.seconds) == 200.0
    assert found.share == 0.5


def test_steps_are_lost_to_the_next_attempt_that_has_any() -> None:
    first = Timed(began=0.0, ended=50.0, first_step=1, last_step=40, first_at=1.0, last_at=40.0, ordered=40.0)
    never = Timed(began=50.0, ended=60.0, ordered=58.0)
    third = Timed(began=60.0, ended=90.0, first_step=31, last_step=50, first_at=70.0, last_at=89.0)
    found = spent([first, never, third])
    assert found.lost_steps == 10
    assert parts(found) == pytest.approx(90.0)


def test_a_run_that_begins_at_zero_again_has_lost_all_its_steps_and_no_more() -> None:
    first = Timed(began=0.0, ended=50.0, first_step=1, last_step=40, first_at=1.0, last_at=40.0, ordered=45.0)
    second = Timed(began=50.0, ended=90.0, first_step=1, last_step=30, first_at=60.0, last_at=89.0)
    found = spent([first, second])
    assert found.lost_steps == 40
    assert found.lost == pytest.approx(40.0)
    assert parts(found) == pytest.approx(90.0)


def test_without_steps_nobody_can_say_what_was_training() -> None:
    found = spent([Timed(began=0.0, ended=50.0, failed=30.0, ordered=40.0)])
    assert (found.detection, found.stop) == (10.0, 10.0)
    assert (found.start, found.productive, found.share, found.lost, found.lost_steps) == (None,) * 5


def test_a_lost_host_is_noticed_after_its_last_word_whatever_others_print_meanwhile() -> None:
    cut = Timed(
        began=0.0,
        ended=80.0,
        first_step=1,
        last_step=45,
        first_at=10.0,
        last_at=74.0,
        failed=60.0,
        ordered=75.0,
        at_most=True,
    )
    found = spent([cut])
    assert (found.detection, found.detection_at_most, found.stop) == (15.0, True, 5.0)
    assert found.productive == 50.0 and parts(found) == pytest.approx(80.0)


def test_clocks_that_disagree_make_no_time_negative() -> None:
    late = Timed(
        began=0.0,
        ended=50.0,
        first_step=1,
        last_step=9,
        first_at=10.0,
        last_at=20.0,
        failed=5.0,
        ordered=19.0,
    )
    found = spent([late])
    assert min(found.detection, found.stop, found.start or 0.0, found.productive or 0.0) >= 0.0
    assert parts(found) == pytest.approx(50.0)

"""What `fit` says beside what real DeepSpeed processes hold: states to 1 %, the peak to 10 %."""

from __future__ import annotations

import pytest

from tests.fit.cases import CASES, QUICK, Case
from tests.fit.measuring import measure

pytestmark = pytest.mark.training


def check(cases: list[Case]) -> None:
    pytest.importorskip("deepspeed")
    pytest.importorskip("transformers")
    for row in measure(cases):
        assert abs(row.off_states) < 0.01, row
        assert abs(row.off_peak) < 0.10, row
        assert abs(row.off_sent) < 0.03, row


def test_two_quick_ones() -> None:
    check(list(QUICK))


@pytest.mark.long
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_all(ranks: int) -> None:
    check([case for case in CASES if case.ranks == ranks])

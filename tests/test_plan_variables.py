"""Which variables may be set for a run, and which belong to its ranks."""

from __future__ import annotations

import pytest

from clusterctl.errors import UsageError
from clusterctl.plan.variables import RANK_VARIABLES, from_file, from_mapping, from_options


@pytest.mark.parametrize("name", RANK_VARIABLES)
def test_what_each_rank_gets_its_own_value_of_is_refused_from_every_source(name: str) -> None:
    with pytest.raises(UsageError, match=f"--env: `{name}` is set for each rank") as caught:
        from_options([f"{name}=7"], {})
    assert "hostfile" in caught.value.hint
    with pytest.raises(UsageError, match="vars line 2"):
        from_file(f"A=1\n{name}=7\n", "vars")
    with pytest.raises(UsageError, match="profile lab"):
        from_mapping({name: "7"}, "profile lab")


def test_where_ranks_meet_may_be_chosen() -> None:
    found = from_options(["MASTER_ADDR=10.0.0.7", "MASTER_PORT=29777"], {})
    assert [setting.name for setting in found] == ["MASTER_ADDR", "MASTER_PORT"]

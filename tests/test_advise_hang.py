"""The verdict on hangs recorded from real processes: the sentence, and whether the run is stopped."""

from __future__ import annotations

import pytest

from tests.hangs.fixtures import CASES, verdict

STOPPED = {
    "asleep": "rank 2 on node2 never entered all_reduce 4 (train.py:25), in which 3 ranks wait; "
    "it sleeps at train.py:24 (asleep)",
    "other_collective": "ranks disagree at collective 4: rank 1 on node1 called barrier (train.py:31), "
    "3 ranks called all_gather (train.py:32)",
    "other_shape": "ranks disagree on the size of all_reduce 4: rank 3 on node2 gave [2000000], "
    "3 ranks gave [4000000] (train.py:37)",
    "other_dtype": "ranks disagree on the dtype of all_reduce 4: rank 3 on node2 gave Half, "
    "3 ranks gave Float (train.py:43)",
    "other_order": "ranks wait for one another: rank 0 on node1 in all_reduce 1 of group 2 (train.py:49), "
    "ranks 1-3 on node[1-2] in all_reduce 1 of group 1 (train.py:50)",
    "stopped": "rank 1 on node1 is stopped (SIGSTOP, pid 27373); "
    "3 ranks wait for it in all_reduce 4 (train.py:59)",
    "nested": "rank 3 on node2 never entered all_reduce 4 (train.py:70), in which 2 ranks wait and 1 more "
    "elsewhere; it sleeps at train.py:67 (nested)",
    "early_exit": "rank 2 on node2 ended with exit code 0 while 3 ranks wait for it in init_process_group "
    "(train.py:211)",
    "backward": "rank 1 on node1 never entered all_reduce 8 (train.py:119), in which 3 ranks wait; "
    "it sleeps at train.py:118 (backward)",
    "zero2": "rank 1 on node1 never entered all_reduce 17 of group 1 (train.py:128), in which 3 ranks wait; "
    "it sleeps at train.py:127 (zero2)",
    "left_lock": "ranks 0-1 on node1 wait for the lock file of a torch extension (train.py:137), "
    "and no rank works on it; 2 ranks wait for them in all_reduce 1 (train.py:18)",
    "receives": "rank 0 on node1 never entered barrier 4 (train.py:128), in which 2 ranks wait and 1 more "
    "elsewhere; it sleeps at train.py:127 (receives)",
    "all_receive": "all 4 ranks wait in recv (train.py:143), and no rank sends",
    "worker_asleep": "rank 1 on node1 never entered all_reduce 3 (train.py:156), in which 3 ranks wait; "
    "it sits in DataLoader.__next__ (train.py:155)",
    "worker_stopped": "rank 1 on node1 sits in DataLoader.__next__ (train.py:165), "
    "and its worker (pid 8571) is stopped; 3 ranks wait for it in all_reduce 1 (train.py:166)",
    "worker_dead": "rank 1 on node1 sits in DataLoader.__next__ (train.py:192), "
    "and its worker (pid 16208) is gone; 3 ranks wait for it in all_reduce 1 (train.py:193)",
    "two_locks": "rank 3 on node2 never entered all_reduce 4 (train.py:18), in which 3 ranks wait; "
    "it waits for a lock or a thread at train.py:199 (takes)",
    "other_members": "ranks wait for one another: rank 2 on node2 in new_group (train.py:214), "
    "rank 3 on node2 in all_reduce 1 of group 1 (train.py:215), "
    "ranks 0-1 on node1 in barrier 4 (train.py:216)",
    "not_there": "rank 3 on node2 has not reached init_process_group (train.py:211), in which 3 ranks wait; "
    "it sleeps at train.py:208 (main)",
}
LEFT_ALONE = {
    "evaluates": "rank 0 on node1 works at train.py:92 (evaluate): 3 s of CPU in 4 s; "
    "3 ranks wait for it in barrier 4 (train.py:86)",
    "saves": "rank 0 on node1 works at train.py:109 (save): 99.2 MiB to and from its disk in 4 s; "
    "3 ranks wait for it in barrier 4 (train.py:99)",
    "compiles": "rank 0 on node1 works in torch.utils.cpp_extension (train.py:124): it compiles (cc1plus); "
    "3 ranks wait for it in the lock file of a torch extension (train.py:124)",
    "all_early": "no rank waits for another, and none works: they sleep at train.py:222 (main)",
}


def test_every_recorded_case_is_here() -> None:
    assert {*STOPPED, *LEFT_ALONE} == set(CASES)


@pytest.mark.parametrize("case", STOPPED)
def test_ranks_that_hang_are_explained_and_stopped(case: str) -> None:
    found = verdict(case)
    assert found.sentence == STOPPED[case]
    assert found.stop and found.hint


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_ranks_that_work_are_named_and_left_alone(case: str) -> None:
    found = verdict(case)
    assert found.sentence == LEFT_ALONE[case]
    assert not found.stop


def test_a_group_that_is_not_the_same_on_all_ranks_is_told_by_who_is_through() -> None:
    assert verdict("other_members").hint == (
        "every rank gives new_group the same ranks, in the same order: "
        "ranks 0-1 are through with all_reduce 1 of group 1, in which rank 3 waits"
    )
    assert "new_group" not in verdict("other_order").hint

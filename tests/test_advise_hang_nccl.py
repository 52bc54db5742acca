"""The verdict on sixteen ranks with NCCL: the sentence a person reads, and whether the run is stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from clusterctl.advise.hang import judge
from clusterctl.advise.hang_verdict import HangVerdict
from clusterctl.messages.evidence import RankEvidence, ThreadStack
from tests.hangs.fixtures import plan
from tests.hangs.nccl import (
    EVALUATE,
    ITEM,
    LOADER,
    SAVE,
    TORCH,
    child,
    collective,
    frames,
    hosts,
    inside,
    outside,
    process,
    spinning,
    stack,
)

ALL = {rank: inside(rank) for rank in range(16)}
WAIT = "all_reduce 812 (train.py:141)"
Ranks = Mapping[int, RankEvidence]


def verdict(
    first: Ranks, second: Ranks | None = None, *, swapped: int = 0, exits: Mapping[int, int] | None = None
) -> HangVerdict:
    """All ranks are inside one collective, but ``first``; ``second`` says what of them is otherwise later."""
    before = {**ALL, **first}
    after = {rank: each if rank in first else spinning(each) for rank, each in before.items()}
    after |= second or {}
    return judge(hosts(before, look=1), hosts(after, look=2, swapped=swapped), plan(8, 8), exits)


def loads(**worker: Any) -> RankEvidence:
    return child(outside(13, LOADER), 77, **worker)


STOPPED: tuple[tuple[Ranks, str, str], ...] = (
    (
        {13: loads()},
        "missing",
        f"rank 13 on node2 never entered {WAIT}, in which 15 ranks wait; "
        "it sits in DataLoader.__next__ (train.py:97)",
    ),
    (
        {13: loads(state="Z")},
        "loader",
        "rank 13 on node2 sits in DataLoader.__next__ (train.py:97), and its worker (pid 77) is gone; "
        f"15 ranks wait for it in {WAIT}",
    ),
    (
        {13: loads(state="T")},
        "loader",
        "rank 13 on node2 sits in DataLoader.__next__ (train.py:97), and its worker (pid 77) is stopped; "
        f"15 ranks wait for it in {WAIT}",
    ),
    (
        {13: process(loads(), state="D", wchan="rpc_wait_bit_killable")},
        "disk",
        "rank 13 on node2 waits in the kernel for a file server (state D, rpc_wait_bit_killable), "
        f"in DataLoader.__next__ (train.py:97); 15 ranks wait for it in {WAIT}",
    ),
    (
        {5: process(replace(ALL[5], threads=(), recorder=None), state="T")},
        "stopped",
        f"rank 5 on node1 is stopped (SIGSTOP, pid 4005); 15 ranks wait for it in {WAIT}",
    ),
    (
        {},
        "stuck",
        f"all 16 ranks are inside {WAIT}, which does not move though none is missing",
    ),
    (
        {rank: replace(each, threads=ITEM) for rank, each in ALL.items()},
        "stuck",
        "all 16 ranks are inside all_reduce 812 (train.py:142), which does not move though none is missing",
    ),
    (
        {5: inside(5, operation="broadcast")},
        "disagree",
        "ranks disagree at collective 812: rank 5 on node1 called broadcast (train.py:141), "
        "15 ranks called all_reduce (train.py:141)",
    ),
    (
        {5: inside(5, input_sizes=((1000, 512),))},
        "disagree",
        "ranks disagree on the size of all_reduce 812: rank 5 on node1 gave [1000, 512] (train.py:141), "
        "15 ranks gave [1024, 512] (train.py:141)",
    ),
    (
        {5: inside(5, dtypes=("Float",))},
        "disagree",
        "ranks disagree on the dtype of all_reduce 812: rank 5 on node1 gave Float (train.py:141), "
        "15 ranks gave BFloat16 (train.py:141)",
    ),
    (
        {rank: outside(rank, EVALUATE) for rank in range(8, 16)},
        "missing",
        f"ranks 8-15 on node2 never entered {WAIT}, in which 8 ranks wait; "
        "they sit at evaluation.py:33 (score)",
    ),
)


@pytest.mark.parametrize(("first", "kind", "sentence"), STOPPED)
def test_what_cannot_go_on_is_stopped(first: Ranks, kind: str, sentence: str) -> None:
    found = verdict(first)
    assert found.sentence == sentence
    assert (found.kind, found.stop) == (kind, True)
    assert found.hint


def test_who_holds_a_file_lock_is_asked_on_the_host_that_waits_for_it() -> None:
    found = verdict({13: process(outside(13, EVALUATE), state="S", wchan="locks_lock_inode_wait")})
    assert "it waits for a file lock" in found.sentence
    assert found.hint.startswith("who holds it: clusterctl exec -i node2 -- lslocks")


EVALUATES = outside(0, EVALUATE)
SAVES = outside(0, SAVE)
LETS_GO: tuple[tuple[Ranks, Ranks, str], ...] = (
    (
        {13: loads()},
        {13: loads(cpu=20.0)},
        "rank 13 on node2 works in DataLoader.__next__ (train.py:97): "
        f"its processes used 20 s of CPU in 30 s; 15 ranks wait for it in {WAIT}",
    ),
    (
        {13: loads()},
        {13: loads(read=2**30)},
        "rank 13 on node2 works in DataLoader.__next__ (train.py:97): 1.0 GiB to and from its disk in 30 s; "
        f"15 ranks wait for it in {WAIT}",
    ),
    (
        {0: EVALUATES},
        {0: process(EVALUATES, cpu=929.0)},
        "rank 0 on node1 works at evaluation.py:33 (score): 29 s of CPU in 30 s; "
        f"15 ranks wait for it in {WAIT}",
    ),
    (
        {0: process(SAVES, written=0)},
        {0: process(SAVES, written=2**33)},
        "rank 0 on node1 works in torch.save (train.py:201): 8.0 GiB to and from its disk in 30 s; "
        f"15 ranks wait for it in {WAIT}",
    ),
    (
        {0: process(SAVES, copied=0)},
        {0: process(SAVES, copied=150_000)},
        "rank 0 on node1 works in torch.save (train.py:201): it wrote 146.5 KiB in 30 s; "
        f"15 ranks wait for it in {WAIT}",
    ),
    (
        {0: process(SAVES, state="D", wchan="folio_wait_writeback")},
        {},
        "rank 0 on node1 waits in the kernel for a disk (state D, folio_wait_writeback), "
        f"in torch.save (train.py:201); 15 ranks wait for it in {WAIT}",
    ),
    (
        {},
        {0: spinning(inside(0, sequence=813))},
        "the run moves: rank 0 on node1 went on between the two looks",
    ),
)


@pytest.mark.parametrize(("first", "second", "sentence"), LETS_GO)
def test_what_may_go_on_is_not_stopped(first: Ranks, second: Ranks, sentence: str) -> None:
    found = verdict(first, second)
    assert found.sentence == sentence
    assert not found.stop


def test_a_host_that_swaps_is_named_and_not_stopped() -> None:
    found = verdict(
        {5: outside(5, EVALUATE)}, {5: process(outside(5, EVALUATE), major_faults=90_000)}, swapped=200_000
    )
    assert found.sentence == (
        f"node1 swaps: rank 5 on node1 waited for 3,000 pages a second; 15 ranks wait for it in {WAIT}"
    )
    assert not found.stop


def test_a_rank_that_ended_with_0_is_waited_for() -> None:
    found = verdict({}, exits={13: 0})
    assert found.sentence == f"rank 13 on node2 ended with exit code 0 while 15 ranks wait for it in {WAIT}"
    assert found.stop


def test_a_rank_that_does_not_end_when_all_others_have_is_named() -> None:
    """A thread of it that is no daemon does not end."""
    exits = (ThreadStack(main=True, frames=frames(("/usr/lib/python3.11/threading.py", 1590, "_shutdown"))),)
    found = verdict({5: outside(5, exits)}, exits={rank: 0 for rank in range(16) if rank != 5})
    assert found.sentence == (
        "rank 5 on node1 has not ended as 15 other ranks have: it sits in the exit of Python"
    )
    assert not found.stop and [each.rank for each in found.suspects] == [5]


THREADING = ("/usr/lib/python3.11/threading.py", 1590, "_shutdown")
LEAVES = (ThreadStack(main=True, frames=frames(THREADING)),)
MEETS = (
    ThreadStack(
        main=True,
        frames=frames(
            (f"{TORCH}/distributed/distributed_c10d.py", 5356, "barrier"), ("train.py", 12, "leave")
        ),
    ),
)
RAISED = "ValueError: loss is nan\nat step 17"


@pytest.mark.parametrize(
    ("rank", "where"),
    [
        (outside(5, LEAVES), "the exit of Python"),
        (replace(inside(5, operation="barrier"), threads=MEETS), "barrier (train.py:12)"),
    ],
)
def test_a_rank_that_raised_and_does_not_end_is_named_by_what_it_raised(
    rank: RankEvidence, where: str
) -> None:
    found = verdict({5: replace(rank, raised=RAISED)})
    assert found.sentence == (
        f"rank 5 on node1 raised ValueError: loss is nan and does not end: it sits in {where}; "
        f"15 ranks wait for it in {WAIT}"
    )
    assert (found.kind, found.stop) == ("raised", True)
    alone = verdict(
        {5: replace(rank, raised=RAISED)}, exits={number: 0 for number in range(16) if number != 5}
    )
    assert (alone.kind, alone.stop) == ("raised", True)


def test_a_rank_that_raised_may_take_its_time_to_end() -> None:
    leaves = replace(outside(5, LEAVES), raised=RAISED)
    found = verdict({5: leaves}, {5: process(leaves, cpu=929.0)})
    assert found.kind == "works" and not found.stop


def test_an_exception_that_the_script_survived_is_not_its_end() -> None:
    """Scripts call `sys.excepthook` to have an exception printed, and forked children end with one."""
    assert verdict({13: replace(loads(), raised=RAISED)}).kind == "missing"


def test_a_host_that_told_nothing_is_named_and_nothing_is_stopped() -> None:
    first, second = hosts(ALL, look=1), hosts({rank: spinning(each) for rank, each in ALL.items()}, look=2)
    del second[1]
    found = judge(first, second, plan(8, 8))
    assert found.sentence == f"ranks 8-15 on node2 told nothing; 8 ranks wait for them in {WAIT}"
    assert (found.stop, found.unknown) == (False, ("node2",))


FETCHES = stack(
    ("/usr/lib/python3.11/ssl.py", 1167, "read"),
    ("/opt/env/lib/python3.11/site-packages/requests/api.py", 59, "get"),
    ("train.py", 88, "ask_the_judge"),
)


def test_a_rank_that_hears_from_the_internet_works() -> None:
    silent = replace(outside(0, FETCHES), internet=5000)
    assert verdict({0: silent}).stop
    found = verdict({0: silent}, {0: replace(silent, internet=5300)})
    assert found.sentence == (
        "rank 0 on node1 works in a network request (train.py:88): 300 bytes over the network in 30 s; "
        f"15 ranks wait for it in {WAIT}"
    )
    assert not found.stop


def test_a_rank_whose_workers_fetch_from_the_internet_works_and_a_dashboard_s_figures_are_no_work() -> None:
    silent = replace(loads(), internet=0)
    assert verdict({13: silent}, {13: replace(silent, internet=30_000)}).stop
    found = verdict({13: silent}, {13: replace(silent, internet=300_000)})
    assert found.sentence == (
        "rank 13 on node2 works in DataLoader.__next__ (train.py:97): 293.0 KiB over the network in 30 s; "
        f"15 ranks wait for it in {WAIT}"
    )
    assert not found.stop


def test_the_child_that_is_waited_for_is_the_one_that_was_begun_last() -> None:
    waits = outside(0, stack(("/usr/lib/python3.11/subprocess.py", 1264, "wait"), ("train.py", 9, "fetch")))
    tracked = child(waits, 4100, command="python -c from multiprocessing.resource_tracker import main")
    fetches = child(
        child(tracked, 4200, command="rsync hub:/data /scratch"), 4300, parent=4200, command="ssh"
    )
    assert verdict({0: fetches}).hint == "its child process does nothing: rsync hub:/data /scratch"


def test_a_rank_that_wants_a_core_and_gets_none_is_left_alone() -> None:
    starved = process(outside(0, EVALUATE), state="R")
    assert not verdict({0: starved}).stop


def test_gloo_and_nccl_in_one_group_are_counted_apart() -> None:
    barrier = replace(collective(3), operation="gloo:barrier", input_sizes=(), done=True)
    both = {
        rank: replace(
            each, recorder=replace(each.recorder, collectives=(barrier, *each.recorder.collectives))
        )
        for rank, each in {**ALL, 13: loads()}.items()
        if each.recorder is not None
    }
    assert verdict(both).sentence == STOPPED[0][2]


def test_no_host_is_believed_what_it_tells_of_another_s_ranks() -> None:
    first, second = ({**hosts({**ALL, 13: loads()}, look=look)} for look in (1, 2))
    for look in (first, second):
        look[0] = replace(look[0], ranks=(*look[0].ranks, inside(13)))
    assert judge(first, second, plan(8, 8)).sentence == STOPPED[0][2]

"""What holds of every verdict on a hang, whatever the hosts show."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from clusterctl.advise.hang import judge
from clusterctl.messages.evidence import (
    Collective,
    Frame,
    Group,
    HostEvidence,
    ProcessLook,
    RankEvidence,
    Recorder,
    ThreadStack,
)
from tests.hangs.fixtures import CASES, plan, recorded
from tests.hangs.nccl import EVALUATE, LOADER, SAVE, child, hosts, inside, outside, process, spinning

PLAN = plan(2, 2)
NAMES = st.sampled_from(["", "0", "tp", "default_pg", "undefined"])
NUMBERS = st.integers(-1, 6) | st.integers(-(2**62), 2**62)
FRAMES = st.builds(
    Frame,
    st.sampled_from(
        [
            "",
            "/home/me/project/train.py",
            "/opt/env/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py",
            "/opt/env/lib/python3.11/site-packages/torch/utils/data/dataloader.py",
            "<string>",
        ]
    ),
    NUMBERS,
    st.sampled_from(["", "main", "all_reduce", "recv", "init_process_group", "_try_get_data", "save"]),
)
THREADS = st.builds(ThreadStack, main=st.booleans(), frames=st.lists(FRAMES, max_size=4).map(tuple))
LOOKS = st.builds(
    ProcessLook,
    pid=st.integers(1, 5),
    parent=st.just(1),
    command=st.sampled_from(["", "python train.py", "/usr/bin/nvcc x"]),
    state=st.sampled_from(["R", "S", "D", "T", "t", "Z", ""]),
    wchan=st.sampled_from(["", "rpc_wait", "folio_wait_writeback", "request_wait_answer"]),
    cpu=st.floats(0, 1e6),
    read=st.none() | NUMBERS,
    written=st.none() | NUMBERS,
    major_faults=NUMBERS,
)
COLLECTIVES = st.builds(
    Collective,
    group=NAMES,
    sequence=NUMBERS,
    operation=st.sampled_from(["", "gloo:all_reduce", "nccl:broadcast", "nccl:scatter", "nccl:send 0->1"]),
    input_sizes=st.lists(st.lists(NUMBERS, max_size=2).map(tuple), max_size=2).map(tuple),
    dtypes=st.lists(NAMES, max_size=2).map(tuple),
    point_to_point=st.booleans(),
    done=st.booleans(),
    created=st.floats(0, 1e10),
)
GROUPS = st.builds(
    Group, name=NAMES, description=NAMES, ranks=st.lists(st.integers(0, 9), max_size=4).map(tuple)
)
RECORDERS = st.none() | st.builds(
    Recorder,
    groups=st.lists(GROUPS, max_size=2).map(tuple),
    collectives=st.lists(COLLECTIVES, max_size=4).map(tuple),
)
RANKS = st.builds(
    RankEvidence,
    rank=st.integers(0, 6),
    processes=st.lists(LOOKS, max_size=3).map(tuple),
    threads=st.lists(THREADS, max_size=2).map(tuple),
    recorder=RECORDERS,
    sent=st.none() | NUMBERS,
    received=st.none() | NUMBERS,
    raised=st.sampled_from(["", "ValueError: why", "\n"]),
    unseen=st.lists(NAMES, max_size=1).map(tuple),
)
HOSTS = st.dictionaries(
    st.integers(0, 3),
    st.builds(
        HostEvidence,
        look=st.integers(0, 3),
        time=st.floats(0, 1e10),
        ranks=st.lists(RANKS, max_size=3).map(tuple),
        swapped=st.none() | NUMBERS,
    ),
    max_size=3,
)


@settings(max_examples=60)
@given(HOSTS, HOSTS, st.dictionaries(st.integers(0, 6), st.integers(-9, 255), max_size=2))
def test_whatever_the_hosts_send_there_is_a_verdict(
    first: dict[int, HostEvidence], second: dict[int, HostEvidence], exits: dict[int, int]
) -> None:
    found = judge(first, second, PLAN, exits)
    assert found.sentence and found.reason
    seen = {each.rank for host in second.values() for each in host.ranks} | exits.keys()
    assert not found.stop or seen >= set(range(4))


@given(st.sampled_from(CASES), st.randoms())
def test_the_order_of_hosts_and_ranks_does_not_matter(case: str, chance: random.Random) -> None:
    fixture = recorded(case)

    def shuffled(looks: dict[int, HostEvidence]) -> dict[int, HostEvidence]:
        nodes = list(looks)
        chance.shuffle(nodes)
        mixed = {}
        for node in nodes:
            ranks = list(looks[node].ranks)
            chance.shuffle(ranks)
            mixed[node] = replace(looks[node], ranks=tuple(ranks))
        return mixed

    told = judge(fixture.first, fixture.second, PLAN, fixture.exits)
    assert judge(shuffled(fixture.first), shuffled(fixture.second), PLAN, fixture.exits) == told


@given(st.sampled_from(CASES), st.integers(0, 1), st.booleans())
def test_a_run_of_which_a_host_told_nothing_is_never_stopped(case: str, node: int, late: bool) -> None:
    fixture = recorded(case)
    first, second = dict(fixture.first), dict(fixture.second)
    (second if late else first).pop(node)
    exits = {rank: code for rank, code in fixture.exits.items() if rank not in PLAN.nodes[node].ranks}
    assert not judge(first, second, PLAN, exits).stop


Change = Callable[[RankEvidence], RankEvidence]


def later(evidence: RankEvidence) -> RankEvidence:
    """The same rank, which has entered and finished one more collective."""
    assert evidence.recorder is not None
    *before, last = evidence.recorder.collectives
    more = (*before, replace(last, done=True), replace(last, sequence=last.sequence + 1))
    return replace(evidence, recorder=replace(evidence.recorder, collectives=more))


ANYWHERE: tuple[Change, ...] = (
    later,
    lambda each: replace(each, threads=EVALUATE),
    lambda each: replace(each, received=2**24),
    lambda each: process(each, pid=99),
)
OUTSIDE: tuple[Change, ...] = (
    lambda each: process(each, cpu=901.5),
    lambda each: process(each, written=2**20),
    lambda each: process(each, read=2**20),
    lambda each: process(each, major_faults=9000),
    lambda each: child(each, 78, cpu=5.0),
)
PLACES = st.sampled_from([LOADER, SAVE])
SIXTEEN = plan(8, 8)


@given(st.sets(st.integers(0, 15), max_size=5), PLACES, st.integers(0, 15), st.data())
def test_a_run_of_which_one_rank_got_on_is_never_stopped(
    out: set[int], threads: tuple[ThreadStack, ...], rank: int, data: st.DataObject
) -> None:
    before = {each: outside(each, threads) if each in out else inside(each) for each in range(16)}
    after = {each: shown if each in out else spinning(shown) for each, shown in before.items()}
    if threads is LOADER:
        before = {each: child(shown, 77) if each in out else shown for each, shown in before.items()}
        after = {each: child(shown, 77) if each in out else shown for each, shown in after.items()}
    assert judge(hosts(before, look=1), hosts(after, look=2), SIXTEEN).stop
    change = data.draw(st.sampled_from((*ANYWHERE, *OUTSIDE) if rank in out else ANYWHERE))
    after[rank] = change(after[rank])
    assert not judge(hosts(before, look=1), hosts(after, look=2), SIXTEEN).stop

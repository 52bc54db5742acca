"""What an outcome means: cause, collateral, and what is not known."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from clusterctl.advise.explain import Explanation, HostWarning, explain
from clusterctl.advise.sightings import Excerpt, sightings
from clusterctl.advise.signatures import SIGNATURES
from clusterctl.messages.events import Warned
from clusterctl.store.outcome import Cause, Outcome
from tests.test_run_machine import plan as small_plan

PLAN = msgspec.structs.replace(small_plan(2), run="20260101-120000-aaaa")
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB."
PEER = "RuntimeError: [pair.cc:553] Connection closed by peer [10.0.0.2]:33715"


def cause(host: str = "h1", rank: int | None = 1, **changes: Any) -> Cause:
    found = Cause(
        kind="exception",
        message="",
        host=host,
        node_rank=0,
        rank=rank,
        exit_code=1,
        log=f"logs/{host}/rank-{rank}.log",
    )
    return msgspec.structs.replace(found, **changes)


def of(
    first: Cause | None, *others: Cause, status: Any = "failed", log: str = "", **more: Any
) -> Explanation:
    outcome = Outcome(run=PLAN.run, status=status, exit_code=1, cause=first, collateral=others)
    excerpts = [*more.pop("excerpts", [])]
    if log and first is not None:
        excerpts.append(
            Excerpt(text=log, host=first.host, rank=first.rank, file=first.log, first=1, ends=True)
        )
    return explain(PLAN, outcome, excerpts=excerpts, **more)


def raised(text: str, **changes: Any) -> Cause:
    trace = f'Traceback (most recent call last):\n  File "t.py", line 3, in <module>\n    go()\n{text}\n'
    return cause(message=text.splitlines()[0], traceback=trace, **changes)


def test_the_cause_is_told_in_words_and_its_victims_are_folded() -> None:
    found = of(raised(OOM), raised(PEER, host="h0", rank=0), log=f"step 1\n{OOM}")
    assert found.known
    assert found.means == "the GPU's memory is used up: 20.00 GiB asked for"
    assert found.sighting is not None
    assert (found.sighting.code, found.sighting.role) == ("gpu.memory", "root")
    assert (found.sighting.file, found.sighting.line) == ("logs/h1/rank-1.log", 2)
    (echo,) = found.cascades
    assert (echo.role, echo.code, echo.ranks, echo.hosts) == ("cascade", "net.peer-gone", (0,), ("h0",))


def test_others_with_the_same_are_no_victims() -> None:
    found = of(raised(OOM), raised(OOM, host="h0", rank=0))
    assert [(echo.role, echo.means) for echo in found.cascades] == [("root", "the same")]


def test_what_was_printed_long_before_a_kill_is_not_its_cause() -> None:
    killed = cause(kind="signal", message="killed by SIGKILL", signal=9)
    found = of(killed, log=f"{OOM}\nretrying with a smaller batch", peaks={1: 61_000_000_000})
    assert found.means.startswith("killed with SIGKILL from outside, and nothing here says by whom")
    assert "61.0 GB" in found.means
    assert [each.code for each in found.confirmations] == ["gpu.memory"]


def test_what_was_raised_beats_what_was_printed() -> None:
    found = of(raised("ValueError: bad batch"), log=f"{OOM}\nValueError: bad batch")
    assert not found.known
    assert found.means == "ValueError: bad batch"
    assert [each.code for each in found.confirmations] == ["gpu.memory"]
    assert found.quoted[-1] == "ValueError: bad batch"


def test_an_exit_code_that_nothing_explains_is_told_with_the_last_line() -> None:
    left = cause(kind="exit", message="ended with exit code 1")
    said = "INFO step 5\nERROR training failed\nValueError: label 10\n  "
    assert of(left, log=said).means == "ended with exit code 1; its last line: ValueError: label 10"
    assert of(left, log="").means == "ended with exit code 1"
    assert len(of(left, log="x" * 1000).means) < 200


def test_code_in_a_traceback_says_nothing() -> None:
    trace = (
        'Traceback (most recent call last):\n  File "t.py", line 3, in <module>\n'
        '    if "CUDA out of memory" in text: go()\n       ^^^^ address already in use\nValueError: x\n'
    )
    assert not of(cause(message="ValueError: x", traceback=trace)).known


def test_an_exit_code_is_explained_by_the_end_of_the_log() -> None:
    usage = "usage: t.py\nt.py: error: unrecognized arguments: --stepps 3"
    found = of(cause(kind="exit", message="ended with exit code 2", exit_code=2), log=usage)
    assert found.means.endswith("unrecognized arguments: --stepps 3")
    assert found.sighting is not None
    assert found.sighting.line == 2
    far = usage + "\nstep" * 100
    assert not of(cause(kind="exit", message="ended with exit code 2", exit_code=2), log=far).known


def test_a_cause_that_only_follows_leads_to_what_stands_for_itself() -> None:
    died = cause(kind="signal", message="killed by SIGABRT", signal=6)
    watchdog = (
        "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=8, OpType=ALLREDUCE, Timeout(ms)=6)"
    )
    elsewhere = Excerpt(
        text="RuntimeError: CUDA error: uncorrectable ECC error encountered",
        host="h0",
        rank=0,
        file="logs/h0/rank-0.log",
        first=1,
        ends=True,
    )
    found = of(died, log=watchdog, excerpts=[elsewhere])
    assert found.sighting is not None
    assert found.sighting.role == "cascade"
    assert [(each.code, each.host, each.rank) for each in found.suspects] == [("gpu.ecc", "h0", 0)]


def test_a_rank_that_left_early_with_0_is_told_where_others_only_say_that_a_peer_is_gone() -> None:
    victim = raised(PEER, host="h0", rank=0)
    found = of(victim, done={1, 99})
    assert [(each.host, each.rank, each.code) for each in found.suspects] == [("h1", 1, "end.early")]
    assert found.hint.startswith("rank 1 on h1 ended with exit code 0 while others went on:")
    assert not of(raised(OOM, host="h0", rank=0), done={1}).suspects, "that explains itself"
    sick = Excerpt(text="CUDA error: invalid device ordinal", host="h1", rank=1, file="l", ends=True)
    assert [each.code for each in of(victim, done={1}, excerpts=[sick]).suspects] == ["gpu.ordinal"]


def test_what_the_kernel_says_beats_every_text() -> None:
    killed = cause(
        kind="oom", message="out of memory, killed by the kernel: the memory limit of control group /x, 67 MB"
    )
    found = of(killed, log=OOM)
    assert found.sighting is not None
    assert found.sighting.code == "memory.limit"
    assert "control group /x, 67 MB" in found.means


def test_warnings_of_the_host_speak_for_the_cause() -> None:
    full = Warned(time=1.0, what="space", subject="/dev/shm", text="/dev/shm is 98 % full: 16 MB")
    other = HostWarning(host="h0", warning=full)
    bus = cause(kind="signal", message="killed by SIGBUS", signal=7)
    found = of(bus, warnings=[HostWarning(host="h1", warning=full), other])
    assert [each.means for each in found.confirmations] == ["/dev/shm is 98 % full: 16 MB"]
    over = msgspec.structs.replace(full, over=True)
    again = of(bus, warnings=[HostWarning(host="h1", warning=each) for each in (full, over)])
    assert not again.confirmations


def test_where_nothing_failed_nothing_is_explained() -> None:
    for status in ("succeeded", "stopped", "timeout"):
        told = (
            None if status == "succeeded" else cause(kind="operator", message="stopped", rank=None, host="")
        )
        found = of(told, raised(PEER), status=status, log=OOM)
        assert (found.known, found.means, found.cascades) == (False, "", ())


@given(st.text(max_size=400))
def test_random_text_is_no_evidence(text: str) -> None:
    found = of(cause(kind="exit", message="ended with exit code 3"), log=text)
    holds = [each for each in SIGNATURES if each.source == "text" and any(sign in text for sign in each.sign)]
    assert not found.known or holds


@given(
    st.lists(
        st.one_of(st.text(max_size=60), st.sampled_from([sign for each in SIGNATURES for sign in each.sign])),
        max_size=12,
    )
)
def test_any_mixture_of_signs_is_read_without_a_fault(pieces: list[str]) -> None:
    text = "\n".join(pieces)
    for number, seen in sightings(Excerpt(text=text, first=1), {}):
        assert seen.text == text.split("\n")[number][:4000].strip() or "[" in seen.text or "]:" in text
        assert "{" not in seen.means or "{" in text
    assert of(raised(text or "x"), cause(message=text), log=text).run == PLAN.run


def test_a_command_to_paste_holds_what_a_host_printed_as_one_word() -> None:
    found = of(raised("FileNotFoundError: [Errno 2] No such file or directory: '/x;reboot'"))
    assert found.hint == "which hosts have it: clusterctl exec -- ls -ld '/x;reboot'"


def test_a_chain_of_tracebacks_is_read_from_its_first() -> None:
    log = (
        'step 1\nTraceback (most recent call last):\n  File "t.py", line 1, in <module>\n    a()\n'
        "RuntimeError: DataLoader worker (pid 924) is killed by signal: Killed. \n\nOriginal exception was:\n"
        "Traceback (most recent call last):\n"
        + '  File "multiprocessing/connection.py", line 9, in b\n    b()\n' * 60
        + "ConnectionResetError: [Errno 104] Connection reset by peer"
    )
    found = of(cause(kind="exit", message="ended with exit code 1"), log=log)
    assert found.sighting is not None
    assert (found.sighting.code, found.sighting.line) == ("memory.worker-killed", 5)

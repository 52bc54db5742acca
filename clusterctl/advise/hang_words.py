"""A verdict on a hang in one sentence that names ranks, hosts and lines. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from clusterctl.advise.collectives import Disagreement, GroupState
from clusterctl.advise.hang_names import LONG, Names, count, of_group, operation, spans, wait
from clusterctl.advise.hang_verdict import Kind
from clusterctl.advise.rank_state import Condition, RankState, compiles, file_server
from clusterctl.inventory.fold import fold


def sentence(kind: Kind, named: Sequence[int], names: Names) -> str:
    """Without a full stop. Hosts that told nothing are named at its end."""
    said = _of_roots(kind, named, names) if named and kind not in _OF_ALL else _of_all(kind, names)
    silent = names.silent_hosts() if kind != "silent" else ()
    return f"{said}; {fold(silent)} told nothing" if silent else said


_OF_ALL: tuple[Kind, ...] = ("disagree", "circle", "rendezvous", "stuck", "moves")


def _of_all(kind: Kind, names: Names) -> str:
    """Where no single rank is it."""
    if kind == "disagree":
        return _disagreement(names)
    if kind == "circle":
        return _circle(names)
    if kind == "rendezvous":
        return f"{names.waiters()} wait for one another in {names.what(())}"
    if kind == "stuck":
        verb = "is" if len(names.waiting) == 1 else "are"
        return f"{names.waiters()} {verb} inside {names.what(())}, which does not move though none is missing"
    if kind == "moves":
        moved = [rank for rank in names.waiting if names.ranks[rank].progress.moved]
        return f"the run moves: {names.who(moved)} went on between the two looks"
    return "no host told what its ranks do"


def _of_roots(kind: Kind, named: Sequence[int], names: Names) -> str:
    """Where others wait for ranks that can be named."""
    who, one, first = names.who(named), len(named) == 1, names.ranks[named[0]]
    s, waits = "s" * one, _others(named, names)
    process = first.process
    if kind == "stopped":
        pid = f", pid {process.pid}" if process is not None and one else ""
        return f"{who} {'is' if one else 'are'} stopped (SIGSTOP{pid}){waits}"
    if kind == "ended":
        codes = sorted({names.ranks[rank].code for rank in named})
        code = f"with exit code {codes[0]}" if len(codes) == 1 else "by themselves"
        return f"{who} ended {code}{waits.replace(';', ' while', 1)}"
    if kind == "raised":
        does = f"and do{'es' * one} not end: {_sits(named, names)}"
        return f"{who} raised {_first_line(first.raised)} {does}{waits}"
    if kind == "loader":
        return f"{who} sit{s} {names.at(first)}, and {_worker(first)}{waits}"
    if kind == "disk":
        what = "a file server" if file_server(first) else "a disk"
        wchan = f", {process.wchan[:40]}" if process is not None and process.wchan else ""
        state = f" (state {process.state}{wchan})" if process is not None else ""
        return f"{who} wait{s} in the kernel for {what}{state}, {names.at(first)}{waits}"
    if kind == "swap":
        pages = f"{first.progress.faults:,.0f} pages a second"
        return f"{fold(names.ranks[rank].host for rank in named)} swaps: {who} waited for {pages}{waits}"
    if kind == "works":
        return f"{who} work{s} {names.at(first)}: {_work(first)}{waits}"
    if kind == "locked":
        return f"{who} wait{s} for {names.where(first)}, and no rank works on it{waits}"
    if kind == "silent":
        why = f" ({first.unseen[0][:LONG]})" if first.unseen else ""
        return f"{who} told nothing{why}{waits}"
    ended = sum(state.condition is Condition.ENDED for state in names.ranks.values())
    if kind == "idle" and ended:
        have = f"{count(ended, 'other rank')} {'has' if ended == 1 else 'have'}"
        return f"{who} {'has' if one else 'have'} not ended as {have}: {_sits(named, names)}"
    if kind == "idle":
        return f"no rank waits for another, and none works: {_sits(named, names)}"
    return _missing(named, names)


def _first_line(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "an exception")
    return line if len(line) <= LONG else line[: LONG - 1] + "…"


def _missing(named: Sequence[int], names: Names) -> str:
    who, one = names.who(named), len(named) == 1
    group = names.group_of(named)
    if group is not None and set(named) & {*group.missing, *group.unknown}:
        never = "never entered" if set(named) & set(group.missing) else f"{'is' if one else 'are'} not in"
        said = f"{who} {never} {names.what(named)}, {_in_which(group, names)}"
    elif all(names.ranks[rank].place.waits == "rendezvous" for rank in names.waiting):
        waiters = f"in which {count(len(names.waiting), 'rank')} {wait(len(names.waiting))}"
        said = f"{who} {'has' if one else 'have'} not reached {names.what(named)}, {waiters}"
    else:
        waiters = f"{names.waiters()} {wait(len(names.waiting))} in {names.what(named)}"
        return f"{waiters}; {who} {'is' if one else 'are'} elsewhere: {_sits(named, names)}"
    return f"{said}; {_sits(named, names)}"


def _in_which(group: GroupState, names: Names) -> str:
    """Who waits in that collective itself, and how many wait in others that depend on it."""
    inside = [rank for rank in group.waiting if rank in names.waiting]
    more = len(names.waiting) - len(inside)
    elsewhere = f" and {more} more elsewhere" * bool(more)
    return f"in which {count(len(inside), 'rank')} {wait(len(inside))}{elsewhere}"


def _sits(named: Sequence[int], names: Names) -> str:
    """Where they are; the rarest place, where there are several."""
    found = Counter(names.at(names.ranks[rank]) for rank in named)
    rarest, _ = min(found.items(), key=lambda item: item[1])
    there = [rank for rank in named if names.at(names.ranks[rank]) == rarest]
    one = len(there) == 1
    everybody = "it" if one else "they"
    who = f"rank{'s' * (not one)} {spans(there)}" if len(found) > 1 else everybody
    return f"{who} {names.sits(names.ranks[there[0]], one=one)}"


def _others(named: Sequence[int], names: Names) -> str:
    waiting = [rank for rank in names.waiting if rank not in named]
    if not waiting:
        return ""
    whom = "it" if len(named) == 1 else "them"
    return f"; {count(len(waiting), 'rank')} {wait(len(waiting))} for {whom} in {names.what(named)}"


def _circle(names: Names) -> str:
    """Each thing that ranks wait in, and who; no more than three."""
    transfers = {operation(names.ranks[rank]).split(" ")[0] for rank in names.waiting}
    if not any(group.waiting for group in names.groups) and len(transfers) == 1:
        (only,) = transfers
        nobody = "sends" if "recv" in only else "receives"
        return f"{names.waiters()} {wait(len(names.waiting))} in {names.what(())}, and no rank {nobody}"
    apart: dict[str, list[int]] = {}
    for rank in names.waiting:
        apart.setdefault(names.what_of(names.ranks[rank]), []).append(rank)
    fewest = sorted(apart.items(), key=lambda item: (len(item[1]), item[1]))
    said = ", ".join(f"{names.who(ranks)} in {what}" for what, ranks in fewest[:3])
    rest = sum(len(ranks) for _, ranks in fewest[3:])
    return f"ranks wait for one another: {said}" + (f", and {rest} more elsewhere" if rest else "")


def _disagreement(names: Names) -> str:
    group = next(each for each in names.groups if each.disagreement is not None)
    found = group.disagreement
    assert found is not None
    variants = ", ".join(
        _variant(found, value, ranks, group, names, named=number == 0)
        for number, (value, ranks) in enumerate(found.variants[:3])
    )
    if found.what == "operation":
        return f"ranks disagree at collective {found.sequence}{of_group(group)}: {variants}"
    name = f"{found.operation[:LONG]} {found.sequence}{of_group(group)}"
    return f"ranks disagree on the {found.what} of {name}: {variants}"


def _variant(
    found: Disagreement, value: str, ranks: Sequence[int], group: GroupState, names: Names, *, named: bool
) -> str:
    """Their line, where they are still there."""
    who = names.who(ranks) if named or len(ranks) == 1 else count(len(ranks), "rank")
    verb = "called" if found.what == "operation" else "gave"
    waits = {rank: names.ranks[rank].waits.get(group.key) for rank in ranks}
    there = [rank for rank, each in waits.items() if each is not None and each.sequence == found.sequence]
    return f"{who} {verb} {value[:LONG]}{names.lines(there)}"


def _work(state: RankState) -> str:
    """What a rank did between the looks that shows that it works."""
    done = state.progress
    if compiles(state):
        name = done.busiest_child.split(" ")[0].rpartition("/")[2][:40]
        return f"it compiles ({name})" if done.children_busy and name else "it compiles"
    if done.disk_busy:
        return f"{_bytes(done.disk)} to and from its disk in {done.seconds:.0f} s"
    if done.busy:
        return f"{_seconds(done.own_cpu)} s of CPU in {done.seconds:.0f} s"
    if done.children_busy:
        return f"its processes used {_seconds(done.child_cpu)} s of CPU in {done.seconds:.0f} s"
    if done.faulting:
        return f"it reads {done.faults:.0f} pages a second"
    if state.saves and done.copies:
        return f"it wrote {_bytes(done.copied)} in {done.seconds:.0f} s"
    if done.fetches or (state.place.doing == "network" and (done.traffic or done.internet)):
        return f"{_bytes(done.traffic + done.internet)} over the network in {done.seconds:.0f} s"
    return "it runs" if state.process is not None and state.process.state == "R" else "it starts processes"


def _worker(state: RankState) -> str:
    child = state.process
    if child is None:
        return "it has no worker processes left"
    return f"its worker (pid {child.pid}) is {'stopped' if child.state == 'T' else 'gone'}"


def _seconds(number: float) -> str:
    return f"{number:.{number < 1:d}f}"


def _bytes(number: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} bytes"

"""A verdict on a hang in words: one sentence that names ranks, hosts and lines, and what to do. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from clusterctl.advise.collectives import Disagreement, GroupState
from clusterctl.advise.hang_verdict import Kind
from clusterctl.advise.rank_state import Condition, RankState, compiles, file_server
from clusterctl.inventory.fold import fold
from clusterctl.messages.evidence import Frame
from clusterctl.plan.model import LaunchPlan

_LONG = 80


def spans(ranks: Collection[int]) -> str:
    """``0-3,5``."""
    runs: list[list[int]] = []
    for rank in sorted(set(ranks)):
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


class Words:
    """Says what is known of the ranks of one plan."""

    def __init__(
        self, ranks: Mapping[int, RankState], groups: Sequence[GroupState], plan: LaunchPlan
    ) -> None:
        self._ranks = ranks
        self._groups = groups
        self._plan = plan
        self._waiting = [rank for rank, state in ranks.items() if state.condition is Condition.WAITS]

    def sentence(self, kind: Kind, named: Sequence[int]) -> str:
        """One sentence, without an end. Ranks whose host told nothing are named at its end."""
        said = self._sentence(kind, named)
        silent = [host for host in self.silent_hosts() if kind != "silent"]
        return f"{said}; {fold(silent)} told nothing" if silent else said

    def silent_hosts(self) -> tuple[str, ...]:
        """Hosts of which no rank told anything."""
        told: dict[str, bool] = {}
        for state in self._ranks.values():
            known = state.condition is Condition.ENDED or state.process is not None
            told[state.host] = told.get(state.host, False) or known
        return tuple(host for host, known in told.items() if not known)

    def who(self, ranks: Collection[int]) -> str:
        """``rank 5 on node3``, ``ranks 4-7 on node[2-3]``."""
        hosts = fold(self._ranks[rank].host for rank in sorted(ranks))
        return f"rank{'s' * (len(ranks) != 1)} {spans(ranks)} on {hosts}"

    def where(self, state: RankState) -> str:
        """What a rank is in, and at which line of the user's: ``DataLoader.__next__ (train.py:97)``."""
        place = state.place
        if place.inner is None:
            return ""
        own = self._line(state) if place.own is not None else ""
        call = place.operation or place.call
        if not call and place.own != place.inner:
            call = place.inner.function[:_LONG]
        if call:
            return f"{call} ({own})" if own else call
        return f"{own} ({place.inner.function[:_LONG]})"

    def _at(self, state: RankState) -> str:
        where = self.where(state)
        if not where:
            return "where nobody can see"
        return (
            f"at {where}"
            if state.place.own == state.place.inner and not state.place.operation
            else f"in {where}"
        )

    def _sentence(self, kind: Kind, named: Sequence[int]) -> str:
        if kind == "disagree":
            return self._disagreement()
        if kind == "circle":
            return f"ranks wait for one another: {self._waits_apart()}"
        if kind == "rendezvous":
            return f"{self._all()} wait for one another in {self._wait(())}"
        if kind == "stuck":
            return f"{self._all()} are inside {self._wait(())}, which does not move though none is missing"
        if kind == "moves":
            return f"the run moves: {self._moves()}"
        if not named:
            return "no host told what its ranks do"
        return self._of_roots(kind, named)

    def _of_roots(self, kind: Kind, named: Sequence[int]) -> str:
        who, first = self.who(named), self._ranks[named[0]]
        one = len(named) == 1
        waits = self._others(named)
        process = first.process
        pid = f"pid {process.pid}" if process is not None and one else ""
        if kind == "stopped":
            return f"{who} {_is(one)} stopped (SIGSTOP{', ' * bool(pid)}{pid}){waits}"
        if kind == "ended":
            codes = sorted({self._ranks[rank].code for rank in named})
            code = f"with exit code {codes[0]}" if len(codes) == 1 else "by themselves"
            return f"{who} ended {code} while {self._waits_for(named)}"
        if kind == "loader":
            return f"{who} sit{'s' * one} in {self.where(first)}, and {_worker(first)}{waits}"
        if kind == "disk":
            what = "a file server" if file_server(first) else "a disk"
            kernel = (
                f" (state {process.state}{', ' * bool(process.wchan)}{process.wchan[:40]})" if process else ""
            )
            at = self.where(first)
            return f"{who} wait{'s' * one} in the kernel for {what}{kernel}{f', in {at}' * bool(at)}{waits}"
        if kind == "swap":
            pages = f"{first.progress.faults:,.0f} pages a second"
            return f"{fold(self._ranks[rank].host for rank in named)} swaps: {who} waited for {pages}{waits}"
        if kind == "works":
            return f"{who} {'works' if one else 'work'} {self._at(first)}: {_work(first)}{waits}"
        if kind == "silent":
            why = f" ({first.unseen[0][:_LONG]})" if first.unseen else ""
            return f"{who} told nothing{why}{waits}"
        if kind == "idle":
            return f"no rank waits for another, and none works: {self._sits(named)}"
        return self._missing(named)

    def _missing(self, named: Sequence[int]) -> str:
        who, one = self.who(named), len(named) == 1
        if not self._waiting:
            return self._sits(named)
        count = f"in which {self._count()} {self._wait_verb()}"
        if any(set(named) & set(group.missing) for group in self._groups):
            said = f"{who} never entered {self._wait(named)}, {count}"
        elif all(self._ranks[rank].place.waits == "rendezvous" for rank in self._waiting):
            said = f"{who} {'has' if one else 'have'} not reached {self._wait(named)}, {count}"
        else:
            waiters = f"{self.who(self._waiting)} {self._wait_verb()} in {self._wait(named)}"
            return f"{waiters}; {who} {'is' if one else 'are'} elsewhere: {self._sits(named)}"
        return f"{said}; {self._sits(named)}"

    def _sits(self, named: Sequence[int]) -> str:
        """Where they are; the rarest place first, where there are several."""
        found = Counter(self._at(self._ranks[rank]) for rank in named)
        rarest, _ = min(found.items(), key=lambda item: item[1])
        if len(found) == 1:
            return f"{'it sits' if len(named) == 1 else 'they sit'} {rarest}"
        there = [rank for rank in named if self._at(self._ranks[rank]) == rarest]
        return f"rank{'s' * (len(there) > 1)} {spans(there)} sit{'s' * (len(there) == 1)} {rarest}"

    def _others(self, named: Sequence[int]) -> str:
        others = [rank for rank in self._waiting if rank not in named]
        if not others:
            return ""
        return f"; {self._waits_for(named)}"

    def _waits_for(self, named: Sequence[int]) -> str:
        whom = "it" if len(named) == 1 else "them"
        return f"{self._count()} {self._wait_verb()} for {whom} in {self._wait(named)}"

    def _wait_verb(self) -> str:
        return "waits" if len(self._waiting) == 1 else "wait"

    def _count(self) -> str:
        count = len(self._waiting)
        return f"{count} rank{'s' * (count != 1)}"

    def _all(self) -> str:
        everybody = len(self._waiting) == len(self._ranks) > 1
        return f"all {self._count()}" if everybody else self.who(self._waiting)

    def _wait(self, named: Sequence[int]) -> str:
        """``all_reduce 812 of group tp (train.py:141)``, in which others wait for those that are named."""
        groups = [group for group in self._groups if set(named) & set(group.missing)] or [
            group for group in self._groups if group.waiting
        ]
        if groups:
            group = max(groups, key=lambda each: len(each.waiting))
            return f"{_collective(group)}{self._lines(group.waiting)}"
        operations = Counter(
            self._ranks[rank].place.operation
            or (transfer.operation if (transfer := self._ranks[rank].transfer) else "")
            for rank in self._waiting
        )
        operation = max(operations.items(), key=lambda item: item[1])[0] if operations else ""
        return f"{operation[:_LONG] or 'a collective'}{self._lines(self._waiting)}"

    def _lines(self, ranks: Collection[int]) -> str:
        """The line of the user's at which most of the ranks are."""
        lines = Counter(
            self._line(self._ranks[rank]) for rank in ranks if self._ranks[rank].place.own is not None
        )
        return f" ({max(lines.items(), key=lambda item: item[1])[0]})" if lines else ""

    def _line(self, state: RankState) -> str:
        own = state.place.own
        return self.shown(own, state) if own is not None else ""

    def shown(self, frame: Frame, state: RankState) -> str:
        """``train.py:141``; files of the run's working directory are named from there."""
        file = self.relative(frame.file, state.node_rank)
        return f"{file[-_LONG:]}:{frame.line}" if frame.line else file[-_LONG:]

    def relative(self, file: str, node_rank: int) -> str:
        """A file as seen from the run's working directory on that node."""
        code = self._plan.code
        mark = f"/.clusterctl/node/{self._plan.run}/work/"
        places_of = {node.node_rank: node.workdir for node in self._plan.nodes}
        inside = f"{code.subdirectory}/" if code.subdirectory not in ("", ".") else ""
        for root in (places_of.get(node_rank, ""), code.root):
            if root and file.startswith(root.rstrip("/") + "/"):
                return file[len(root.rstrip("/")) + 1 :].removeprefix(inside)
        if mark in file:
            return file.partition(mark)[2].removeprefix(inside)
        return file

    def _moves(self) -> str:
        moved = [rank for rank in self._waiting if self._ranks[rank].progress.moved]
        return f"{self.who(moved)} went on between the two looks" if moved else "something went on"

    def _waits_apart(self) -> str:
        """Each thing that ranks wait in, and who; no more than three."""
        apart: dict[str, list[int]] = {}
        for rank in self._waiting:
            apart.setdefault(self._waits_in(self._ranks[rank]), []).append(rank)
        fewest = sorted(apart.items(), key=lambda item: (len(item[1]), item[1]))
        said = [f"{self.who(ranks)} in {what}" for what, ranks in fewest[:3]]
        rest = sum(len(ranks) for _, ranks in fewest[3:])
        return ", ".join(said) + (f", and {rest} more elsewhere" if rest else "")

    def _waits_in(self, state: RankState) -> str:
        oldest = min(state.waits.values(), key=lambda each: each.created, default=None)
        group = next(
            (each for each in self._groups if oldest is not None and each.name == oldest.group), None
        )
        line = f" ({self._line(state)})" if state.place.own is not None else ""
        if group is not None and oldest is not None:
            of = f" of group {group.title[:_LONG]}" if group.title else ""
            return f"{_bare(oldest.operation)} {oldest.sequence}{of}{line}"
        operation = state.place.operation or (state.transfer.operation if state.transfer is not None else "")
        return f"{operation[:_LONG] or 'a collective'}{line}"

    def _disagreement(self) -> str:
        group = next(each for each in self._groups if each.disagreement is not None)
        found = group.disagreement
        assert found is not None
        of = f" of group {group.title[:_LONG]}" if group.title else ""
        variants = [
            self._variant(found, value, ranks, number == 0)
            for number, (value, ranks) in enumerate(found.variants[:3])
        ]
        if found.what == "operation":
            return f"ranks disagree at collective {found.sequence}{of}: {', '.join(variants)}"
        name = f"{found.operation} {found.sequence}{of}"
        return f"ranks disagree on the {found.what} of {name}: {', '.join(variants)}"

    def _variant(self, found: Disagreement, value: str, ranks: Sequence[int], named: bool) -> str:
        who = self.who(ranks) if named or len(ranks) == 1 else f"{len(ranks)} ranks"
        verb = "called" if found.what == "operation" else "gave"
        return f"{who} {verb} {value[:_LONG]}{self._lines(ranks)}"


def _work(state: RankState) -> str:
    """What a rank did between the looks that shows that it works."""
    done = state.progress
    if compiles(state):
        name = done.busiest_child.split(" ")[0].rpartition("/")[2][:40]
        return f"it compiles ({name})" if done.children_busy and name else "it compiles"
    if done.disk_busy:
        return f"{_bytes(done.disk)} to and from its disk in {done.seconds:.0f} s"
    if done.busy:
        return f"{done.own_cpu:.0f} s of CPU in {done.seconds:.0f} s"
    if done.children_busy:
        return f"its processes used {done.child_cpu:.0f} s of CPU in {done.seconds:.0f} s"
    if done.faulting:
        return f"it reads {done.faults:.0f} pages a second"
    return "it moves"


def _collective(group: GroupState) -> str:
    of = f" of group {group.title[:_LONG]}" if group.title else ""
    return f"{group.operation} {group.sequence}{of}"


def _bare(operation: str) -> str:
    return operation.rpartition(":")[2][:_LONG]


def _worker(state: RankState) -> str:
    child = state.process
    if child is None:
        return "it has no worker processes left"
    return f"its worker (pid {child.pid}) is {'stopped' if child.state == 'T' else 'gone'}"


def _is(one: bool) -> str:
    return "is" if one else "are"


def _bytes(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"

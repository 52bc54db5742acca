"""How a verdict on a hang names ranks, hosts, lines and collectives. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from clusterctl.advise import places
from clusterctl.advise.collectives import GroupState, bare
from clusterctl.advise.rank_state import Condition, RankState, waiters
from clusterctl.inventory.fold import fold
from clusterctl.plan.model import LaunchPlan

_KERNEL = (
    ("nanosleep", "sleep", False),
    ("futex", "wait for a lock or a thread", False),
    ("wait_for_partner", "open a named pipe that nobody else opens", True),
    ("pipe_read", "read a pipe", False),
    ("pipe_write", "write to a pipe that nobody reads", True),
    ("n_tty_read", "read its terminal", True),
    ("do_wait", "wait for a child process", False),
    ("inet_wait_for_connect", "connect to a machine that does not answer", True),
    ("inet_stream_connect", "connect to a machine that does not answer", True),
    ("inet_csk_accept", "wait for a connection", True),
    ("sk_wait_data", "wait for the network", False),
    ("unix_stream_read", "read a local socket", False),
    ("locks_lock_inode_wait", "wait for a file lock", True),
    ("flock", "wait for a file lock", True),
)
"""What a process that waits in such a function of the kernel does; whether that tells more than its stack."""
LONG = 80
"""Characters of any one text of a node that a sentence may have."""


def spans(ranks: Collection[int]) -> str:
    """``0-3,5``."""
    runs: list[list[int]] = []
    for rank in sorted(set(ranks)):
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def wait(number: int) -> str:
    return "waits" if number == 1 else "wait"


class Names:
    """Names what is known of the ranks of one plan."""

    def __init__(
        self, ranks: Mapping[int, RankState], groups: Sequence[GroupState], plan: LaunchPlan
    ) -> None:
        self.ranks = ranks
        self.groups = groups
        self.waiting = waiters(ranks)
        self._plan = plan

    def silent_hosts(self) -> tuple[str, ...]:
        """Hosts of which no rank told anything."""
        told: dict[str, bool] = {}
        for state in self.ranks.values():
            known = state.condition is Condition.ENDED or state.seen
            told[state.host] = told.get(state.host, False) or known
        return tuple(host for host, known in told.items() if not known)

    def who(self, ranks: Collection[int]) -> str:
        """``rank 5 on node3``, ``ranks 4-7 on node[2-3]``."""
        hosts = fold(self.ranks[rank].host for rank in sorted(ranks))
        return f"rank{'s' * (len(ranks) != 1)} {spans(ranks)} on {hosts}"

    def waiters(self) -> str:
        """Those that wait, where it must be said who they are."""
        everybody = len(self.waiting) == len(self.ranks) > 1
        return f"all {count(len(self.waiting), 'rank')}" if everybody else self.who(self.waiting)

    def where(self, state: RankState) -> str:
        """What a rank is in, and at which line of the user's: ``DataLoader.__next__ (train.py:97)``."""
        place = state.place
        if place.inner is None:
            return ""
        own = self.line(state)
        call = place.operation or place.call
        if not call and place.own != place.inner:
            call = place.inner.function[:LONG]
        if call:
            return f"{call} ({own})" if own else call
        return f"{own} ({place.inner.function[:LONG]})"

    def at(self, state: RankState) -> str:
        """``in torch.save (train.py:9)``, or ``at train.py:9 (main)`` where that is all there is."""
        where = self.where(state)
        if not where:
            return "where nobody can see"
        line = state.place.own == state.place.inner and not state.place.operation
        return f"at {where}" if line else f"in {where}"

    def sits(self, state: RankState, *, one: bool) -> str:
        """``sleeps at train.py:9 (main)``; ``sits in torch.save (train.py:9), and reads its terminal``."""
        wchan = state.process.wchan if state.process is not None else ""
        said, telling = next(((words, own) for part, words, own in _KERNEL if part in wchan), ("", False))
        verb, _, rest = said.partition(" ")
        does = f"{verb}{'s' * one}{f' {rest}' * bool(rest)}"
        if said and state.place.own == state.place.inner is not None:
            return f"{does} {self.at(state)}"
        return f"sit{'s' * one} {self.at(state)}{f', and {does}' * telling}"

    def line(self, state: RankState) -> str:
        """``train.py:141``, the user's own."""
        own = state.place.own
        if own is None:
            return ""
        file = self.relative(own.file, state.node_rank)[-LONG:]
        return f"{file}:{own.line}" if own.line else file

    def lines(self, ranks: Collection[int]) -> str:
        """The line at which most of the ranks are, in brackets."""
        found = Counter(line for rank in ranks if (line := self.line(self.ranks[rank])))
        return f" ({max(found.items(), key=lambda item: item[1])[0]})" if found else ""

    def relative(self, file: str, node_rank: int) -> str:
        """A file as seen from the run's working directory on that node, or from where packages lie."""
        code = self._plan.code
        mark = f"/.clusterctl/node/{self._plan.run}/work/"
        workdirs = {node.node_rank: node.workdir for node in self._plan.nodes}
        inside = f"{code.subdirectory}/" if code.subdirectory not in ("", ".") else ""
        for root in (workdirs.get(node_rank, ""), code.root):
            if root and file.startswith(root.rstrip("/") + "/"):
                return file[len(root.rstrip("/")) + 1 :].removeprefix(inside)
        if mark in file:
            return file.partition(mark)[2].removeprefix(inside)
        return places.package_path(file)

    def group_of(self, named: Sequence[int]) -> GroupState | None:
        """That of the most waiters in which those that are named are missing, else that of the most."""
        missing = [group for group in self.groups if set(named) & set(group.missing)]
        return max(missing or self.groups, key=lambda each: len(each.waiting), default=None)

    def what(self, named: Sequence[int]) -> str:
        """``all_reduce 812 of group tp (train.py:141)``, in which others wait for those that are named."""
        group = self.group_of(named)
        if group is not None:
            called = f"{group.operation[:LONG]} {group.sequence}{of_group(group)}"
            return f"{called}{self.lines(group.waiting)}"
        operations = Counter(operation(self.ranks[rank]) for rank in self.waiting)
        most = max(operations.items(), key=lambda item: item[1])[0] if operations else "a collective"
        return f"{most}{self.lines(self.waiting)}"

    def what_of(self, state: RankState) -> str:
        """What this one rank waits in."""
        line = f" ({self.line(state)})" if state.place.own is not None else ""
        key = min(state.waits, key=lambda each: state.waits[each].created, default=None)
        group = next((each for each in self.groups if each.key == key), None)
        if key is None or group is None:
            return f"{operation(state)}{line}"
        oldest = state.waits[key]
        return f"{bare(oldest.operation)} {oldest.sequence}{of_group(group)}{line}"


def of_group(group: GroupState) -> str:
    """Nothing for the group of all ranks."""
    return f" of group {group.title[:LONG]}" if group.title else ""


def operation(state: RankState) -> str:
    """What a rank waits in, where no recorder counts it."""
    if state.place.operation:
        return state.place.operation[:LONG]
    return bare(state.transfer.operation) if state.transfer is not None else "a collective"

"""What to do about ranks that hang, as one line. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from clusterctl.advise.collectives import GroupState
from clusterctl.advise.hang_names import LONG, spans, wait
from clusterctl.advise.hang_verdict import Kind
from clusterctl.advise.rank_state import RankState

_OF_KIND: dict[Kind, str] = {
    "raised": "its traceback stands in its log; an exit handler, or a thread that is no daemon, does not end",
    "ended": "ranks make the same number of steps: look for a return, an exit, uneven batches (drop_last)",
    "loader": "short memory or /dev/shm kills workers: see that host's kernel log; try fewer workers",
    "disk": "look at that host's mounts and disks: clusterctl exec -i {host} -- dmesg",
    "swap": "the host has too little memory for its ranks: fewer data loader workers, or fewer slots there",
    "silent": "look there: clusterctl exec -i {host} -- ps -eo pid,stat,wchan,args",
    "locked": "a run that was killed leaves such a file: remove it, as ~/.cache/torch_extensions/*/*/lock",
    "stopped": "by SIGSTOP or Ctrl-Z; as long as it is there: clusterctl exec -i {host} -- kill -CONT {pid}",
    "disagree": "ranks make the same calls with the same shapes: look for a branch that depends on the rank, "
    "or an exception that only one has caught",
    "circle": "all ranks use groups in the same order, and each send has its recv",
    "stuck": "the network or a GPU does not carry it: clusterctl doctor, then NCCL_DEBUG=INFO",
    "rendezvous": "the hosts do not reach one another at that address and interface: clusterctl doctor",
}
_OF_MISSING = {
    "lock": "a thread of it holds what it waits for, does not end, or has died: clusterctl why shows its "
    "threads",
    "network": "a machine does not answer: give the request a timeout, or fetch before the run",
    "file lock": "who holds it: clusterctl exec -i {host} -- lslocks; on a file server another host may",
    "input": "ranks have no terminal: remove input() and breakpoint()",
    "pool": "a worker of it does nothing, or was killed, for which multiprocessing waits for ever",
    "workers": "the loader's workers do nothing: a lock held at the fork, or a file server that hangs",
    "saving": "look at what it writes to: a file server that hangs, or a pipe that nobody reads",
}
_LOCKS = {"futex": "lock", "locks_lock_inode_wait": "file lock", "flock": "file lock"}


def hint(kind: Kind, named: Sequence[RankState], groups: Sequence[GroupState]) -> str:
    """For those that are named; empty where nothing can be said."""
    if kind == "circle" and (torn := next(filter(_is_torn, groups), None)):
        what = f"{torn.operation[:LONG]} {torn.sequence} of group {torn.title[:LONG]}"
        through = f"{_ranks(torn.through)} {'is' if len(torn.through) == 1 else 'are'} through with {what}"
        waits = f"in which {_ranks(torn.waiting)} {wait(len(torn.waiting))}"
        return f"every rank gives new_group the same ranks, in the same order: {through}, {waits}"
    if kind == "circle" and any(state.place.operation == "new_group" for state in named):
        return "every rank calls new_group with the same ranks, in the same order, member or not"
    if kind in ("missing", "idle"):
        usual = "look for a branch, a loop or a wait that only some ranks take" if kind == "missing" else ""
        return _of_missing(named[0], usual) if named else ""
    first = named[0] if named else None
    if kind == "loader" and first is not None and first.process is not None and first.process.state == "T":
        kind = "stopped"
    pid = first.process.pid if first is not None and first.process is not None else 0
    return _OF_KIND.get(kind, "").format(host=first.host if first is not None else "HOST", pid=pid)


def _is_torn(group: GroupState) -> bool:
    """Some are through with what nobody can be through with alone: they have another group of that name."""
    together = group.operation.startswith(("all_", "allreduce", "barrier", "reduce_scatter"))
    return together and bool(group.title and group.waiting and group.through)


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' * (len(ranks) != 1)} {spans(ranks)}"


def _of_missing(state: RankState, usual: str) -> str:
    place, process = state.place, state.process
    if place.doing == "subprocess" and state.child:
        return f"its child process does nothing: {state.child[:80]}"
    wchan = process.wchan if process is not None else ""
    doing: str = place.doing
    if not doing:
        doing = next((name for sign, name in _LOCKS.items() if sign in wchan), "")
    return _OF_MISSING.get(doing, usual).format(host=state.host)

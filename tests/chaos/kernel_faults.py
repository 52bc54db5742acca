"""Faults that only a kernel can make: processes that no signal ends, memory limits, other users."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.chaos.hosts import USER, Host, run
from tests.chaos.invariants import check, clean
from tests.chaos.rounds import LEASE, SUCCESS, Broken, Expected, Round


class Disk:
    """One of a host's own, at ``path`` within the block; it is thawed at the end."""

    def __init__(self, r: Round, host: Host, path: str = "/tmp/disk") -> None:
        self._round = r
        self._host = host
        self._path = path
        self._image = r.world.folder / f"disk-{host.name}"
        self._frozen = False

    def __enter__(self) -> Disk:
        with self._image.open("wb") as stream:
            stream.truncate(48 * 2**20)
        run("mkfs.ext4", "-q", str(self._image))
        self._host.see(self._path).mkdir(exist_ok=True)
        self._host.inside("mount", "-o", "loop", str(self._image), self._path)
        return self

    def freeze(self) -> None:
        self._host.inside("fsfreeze", "-f", self._path)
        self._frozen = True
        self._host.see("/tmp/frozen").touch()

    def thaw(self) -> None:
        if self._frozen:
            self._host.inside("fsfreeze", "-u", self._path)
            self._frozen = False
            self._host.see("/tmp/frozen").unlink()

    def __exit__(self, *_: object) -> None:
        self.thaw()
        self._round.wait_until(self._unmounted, f"nobody uses {self._path} any more")
        self._image.unlink()

    def _unmounted(self) -> bool:
        try:
            self._host.inside("umount", self._path)
        except OSError:
            return False
        return True


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _stuck(r: Round, disk: Disk, rank: int, what: str) -> dict[int, int]:
    """Start a run one rank of which no signal ends, and wait until that is so. The pids of all ranks: from
    then on nobody may read the command lines of that host."""
    host = r.host_of(rank)
    r.note(f"rank {rank} on {host.name} in state D ({what})")
    r.real = False
    r.launch(who=rank, what=what, at=1)
    r.ready()
    pids = {each: r.the("rank", r.host_of(each), each).pid for each in r.ranks()}
    disk.freeze()
    r.wait_until(lambda: _state(pids[rank]) == "D", "the rank is in state D")
    return pids


def stuck_in_kernel(r: Round) -> Expected:
    rank, what = r.any_rank(), r.rng.choice(("save", "map"))
    host = r.host_of(rank)
    with Disk(r, host) as disk:
        pids = _stuck(r, disk, rank, what)
        del pids[rank]
        expected = r.rng.choice((_stop, _two_interrupts, _peer_killed))(r, pids)
        code = r.returns()
        outcome = r.outcome()
        if outcome.left_behind[host.name] == 0:
            raise Broken(f"nothing was left on {host.name}, it says, where a rank hangs; exit code {code}")
    return expected


def _stop(r: Round, _: dict[int, int]) -> Expected:
    r.stop("--now")
    return Expected((123,), ("operator",), logs=False)


def _two_interrupts(r: Round, _: dict[int, int]) -> Expected:
    r.interrupt(signal.SIGINT)
    time.sleep(1.0)
    r.interrupt(signal.SIGINT)
    return Expected((123,), ("operator",), logs=False)


def _peer_killed(r: Round, peers: dict[int, int]) -> Expected:
    peer = r.rng.choice(sorted(peers))
    r.note(f"SIGKILL to rank {peer}")
    os.kill(peers[peer], signal.SIGKILL)
    return Expected((137,), ("signal",), r.host_of(peer).name, peer, logs=False)


def neighbour_stuck(r: Round) -> Expected:
    """Who reads the command line or the environment of somebody else's process has to wait for its disk."""
    host = r.any_host()
    r.note(f"a process on {host.name} whose memory map is locked")
    script = Path(__file__).with_name("scripts") / "stuck.py"
    argv = [sys.executable, str(script), "/tmp/disk/mapped", "/tmp/frozen"]
    with Disk(r, host) as disk:
        enter = ["nsenter", "-m", "-p", "-t", str(host.root)]
        with subprocess.Popen([*enter, *argv]) as neighbour:
            r.wait_until(host.see("/tmp/disk/mapped").exists, "the neighbour has its file")
            (pid,) = map(
                int, Path(f"/proc/{neighbour.pid}/task/{neighbour.pid}/children").read_text().split()
            )
            disk.freeze()
            r.wait_until(lambda: _state(pid) == "D", "the neighbour is in state D")
            reader = ["timeout", "1", "cat", f"/proc/{pid}/environ"]
            if subprocess.run(reader, stdout=subprocess.DEVNULL, check=False).returncode != 124:
                raise Broken("the neighbour's environment can be read")
            r.launch(3)
            r.returns()
            disk.thaw()
    return SUCCESS


def home_frozen(r: Round) -> Expected:
    """Agent, relay and ranks of a host wait for its home directory."""
    host = r.any_host()
    r.note(f"the home of {host.name} is frozen")
    with Disk(r, host, f"/home/{USER}") as disk:
        r.launch()
        r.ready()
        disk.freeze()
        time.sleep(2.0)
        r.interrupt(signal.SIGINT)
        time.sleep(0.2)
        r.interrupt(signal.SIGINT)
        r.returns()
        if r.outcome().left_behind != {each.name: None if each is host else 0 for each in r.world.hosts}:
            raise Broken(f"left_behind: {r.outcome().left_behind}")
        disk.thaw()
        check(r, Expected((123,), ("operator",), settles=LEASE, logs=False))
        clean(r.world)
    return Expected((123,), outcome=False)


class MemoryLimit:
    """A control group with a limit, and within it one without, in which this host's logins live."""

    def __init__(self, r: Round, host: Host, size: int) -> None:
        first = Path("/sys/fs/cgroup/memory")
        self._unified = not first.exists()
        self._outer = (first.parent if self._unified else first) / r.world.folder.name
        self._inner = self._outer / "logins"
        self._host = host
        self._size = size

    def __enter__(self) -> MemoryLimit:
        self._outer.mkdir()
        if self._unified:
            (self._outer.parent / "cgroup.subtree_control").write_text("+memory")
            (self._outer / "cgroup.subtree_control").write_text("+memory")
        name = "memory.max" if self._unified else "memory.limit_in_bytes"
        (self._outer / name).write_text(str(self._size))
        self._inner.mkdir()
        for each in self._host.processes():
            if "[listener]" in each.command:
                self.take(each.pid)
        return self

    def take(self, pid: int) -> None:
        (self._inner / "cgroup.procs").write_text(str(pid))

    def __exit__(self, *_: object) -> None:
        top = self._outer.parent / "cgroup.procs"
        for group in (self._inner, self._outer):
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    top.write_text(pid)
            group.rmdir()


def out_of_memory(r: Round) -> Expected:
    rank, r.real = r.any_rank(), False
    host = r.host_of(rank)
    r.note(f"rank {rank} on {host.name} takes more memory than its control group has")
    with MemoryLimit(r, host, 200 * 2**20):
        r.launch(who=rank, what="fill", at=3)
        r.returns()
    cause = r.outcome().cause
    said = cause.message if cause is not None else ""
    if "memory limit of control group" not in said or "210 MB" not in said:
        raise Broken(f"the cause does not name the limit: {said}")
    return Expected((137,), ("oom",), host.name, rank)


def killed_beside_out_of_memory(r: Round) -> Expected:
    """Somebody else's process is killed for its memory; then a rank is killed by somebody."""
    rank = r.any_rank()
    host = r.host_of(rank)
    r.launch()
    r.ready()
    with MemoryLimit(r, host, 32 * 2**20) as limit:
        argv = ["sh", "-c", "read -r _; exec tail /dev/zero"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE) as greedy:
            limit.take(greedy.pid)
            greedy.communicate(b"\n")
        if greedy.returncode != -signal.SIGKILL:
            raise Broken(f"the greedy process was not killed: {greedy.returncode}")
        r.send("rank", host, signal.SIGKILL, rank)
        r.returns()
    return Expected((137,), ("signal",), host.name, rank)


def child_became_root(r: Round) -> Expected:
    """The hosts' user is an ordinary one; a rank starts a program that is root, and may not be signalled."""
    rank, stays, r.real = r.any_rank(), r.rng.random() < 0.5, False
    host = r.host_of(rank)
    host.inside("cp", "/usr/bin/python3", "/tmp/becomes-root")
    host.inside("chmod", "4755", "/tmp/becomes-root")
    r.note(f"a child of rank {rank} becomes root, and {'stays' if stays else 'ends'}")
    r.launch(
        3, who=rank, what="root", at=1, slow=3600 if stays else 1,
        options=["--ssh-config", str(r.world.ordinary_config)],
    )  # fmt: skip
    r.returns()
    host.see("/tmp/becomes-root").unlink()
    for each in host.processes():
        if each.command.startswith("/tmp/becomes-root"):
            each.send(signal.SIGKILL)
    left = {each.name: int(stays and each is host) for each in r.world.hosts}
    if r.outcome().left_behind != left:
        raise Broken(f"left_behind: {r.outcome().left_behind}, not {left}")
    if stays and "/tmp/becomes-root" not in r.screen.read_text(errors="replace"):
        raise Broken("what is left is not named")
    return SUCCESS

"""Brings files of a run from its hosts into a directory here, and never outside of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from clusterctl.ask.bundle import REMOTE_COMMAND, pack
from clusterctl.ask.ignore import PULLED_MARK
from clusterctl.ask.pool import HostEnded, HostFailed, HostPool, HostSaid
from clusterctl.messages.pull import Done, Listing, Piece, PullMessage, PullRefused, Shared, pull_messages
from clusterctl.settings import RUN, SSH
from clusterctl.transport.protocol import Transport

OnBytes = Callable[[str, int], None]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What to take from a host: ``path``, seen from ``subdirectory`` of the code at ``root`` there, in which
    the run worked; or, when it is empty, what differs anywhere below ``root`` from the snapshot ``digest``
    that the run started with. A run ``in_place`` had no copy: then what has changed since it began, ``age``
    seconds ago. Names of files are relative to ``root``.

    ``beacon`` names a file that was just made in that subdirectory here: a host that sees it shares the
    directory with this machine, and sends nothing.
    """

    root: str
    path: str
    digest: str = ""
    subdirectory: str = ""
    in_place: bool = False
    age: float = 0.0
    beacon: str = ""


class Pulled(msgspec.Struct, frozen=True, kw_only=True):
    """What one host gave: relative path -> bytes. ``problem`` says in a sentence why not all or nothing came;
    ``there`` names some of what its working directory holds; ``here``: that is this machine's own."""

    host: str
    files: dict[str, int] = {}
    there: tuple[str, ...] = ()
    problem: str = ""
    here: bool = False


class _Transfer:
    """One host's archive on its way into a nameless private file on the target's own disk."""

    def __init__(self, scratch: Path) -> None:
        self.packed: IO[bytes] = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed by `pull`
        self.count: int | None = None
        self.there: tuple[str, ...] = ()
        self.skipped: dict[str, str] = {}
        self.refused = ""
        self.whole = False
        self.here = False


def pull(
    transport: Transport,
    sources: Mapping[str, Source],
    target: Path,
    *,
    on_bytes: OnBytes | None = None,
    on_done: Callable[[str], None] | None = None,
) -> tuple[Pulled, ...]:
    """Copy from each host of ``sources`` into ``target/<host>``, all hosts side by side. Answers in the order
    of ``sources``; ``on_bytes(host, count)`` hears of progress, ``on_done(host)`` of the end. Folders that
    are made here are marked, so that they never travel with a later run.

    A host that says nothing for ``RUN.pull_timeout`` seconds is given up. Raises OSError where ``target``
    cannot be written.
    """
    places = {host: target / host.replace("/", "_") for host in sources}
    made = [path for path in (target, *target.parents) if not path.exists()]
    new = made[-1:] or [place for place in places.values() if not place.exists()]
    target.mkdir(parents=True, exist_ok=True)
    transfers = {host: _Transfer(target) for host in sources}
    found: dict[str, Pulled] = {}

    def opening(host: str) -> bytes:
        return pack("pull", msgspec.structs.asdict(sources[host]), ("run.snapshot",))

    def settle(host: str, why: str) -> None:
        if host not in found:
            found[host] = _settle(host, transfers[host], places[host], why)
            transfers[host].packed.close()
            if on_done is not None:
                on_done(host)

    deadline = time.monotonic() + SSH.probe_timeout
    pool = HostPool(transport, list(sources), REMOTE_COMMAND, opening, pull_messages, deadline)
    try:
        heard = True
        while heard and len(found) < len(sources):
            heard = False
            for event in pool.events(time.monotonic() + RUN.pull_timeout):
                heard = True
                match event:
                    case HostFailed(host, failure):
                        settle(host, failure.message)
                    case HostEnded(host, session):
                        settle(host, session.why_ended("transfer"))
                    case HostSaid(host, message) if host not in found:
                        transfer = transfers[host]
                        _take(transfer, message)
                        if on_bytes is not None:
                            on_bytes(host, transfer.packed.tell())
                        if transfer.whole or transfer.refused or transfer.here:
                            settle(host, "")
                if len(found) == len(sources):
                    break
    finally:
        pool.close()
        for host in sources:
            settle(host, f"nothing was heard for {RUN.pull_timeout:g} s")
        for path in new:
            if path.is_dir() and any(found[host].files for host in sources):
                (path / PULLED_MARK).touch()
        for path in made:  # nothing came: leave no empty folders
            with contextlib.suppress(OSError):
                path.rmdir()
    return tuple(found[host] for host in sources)


def _take(transfer: _Transfer, message: PullMessage) -> None:
    """Keep what one message says."""
    match message:
        case Shared():
            transfer.here = True
        case Listing(count=count, there=there):
            transfer.count, transfer.there = count, there
        case Piece(data=data):
            transfer.packed.write(data)
        case Done(skipped=skipped):
            transfer.skipped = dict(skipped)
            transfer.whole = True
        case PullRefused(reason=reason, there=there):
            transfer.refused, transfer.there = reason, there or transfer.there


def _settle(host: str, transfer: _Transfer, target: Path, why: str) -> Pulled:
    if transfer.here:
        return Pulled(host=host, here=True)
    if not transfer.whole or transfer.count is None:
        return Pulled(host=host, there=transfer.there, problem=transfer.refused or why)
    if not transfer.count:
        return Pulled(host=host, there=transfer.there)
    transfer.packed.seek(0)
    try:
        with tarfile.open(fileobj=transfer.packed, mode="r:gz") as tar:
            came, left_out = unpack(tar, target)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        return Pulled(host=host, there=transfer.there, problem=f"what it sent is damaged: {error}")
    left_out |= transfer.skipped
    problem = "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:3])
    if len(left_out) > 3:
        problem += f"; and {len(left_out) - 3} more"
    files = {name: size for name, size in came.items() if name not in left_out}
    return Pulled(host=host, files=files, there=transfer.there, problem=problem)


def unpack(tar: tarfile.TarFile, target: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Regular files and links that stay inside, below ``target``. Returns what came (name -> bytes) and what
    was refused (name -> why): a name or a link that leads outside, a device, what a folder is in the way of.
    """
    target.mkdir(parents=True, exist_ok=True)
    inside = target.resolve()
    came: dict[str, int] = {}
    refused: dict[str, str] = {}
    for member in tar:
        place = _place(inside, member.name)
        if place is None:
            refused[member.name] = "the name leads outside of the directory"
        elif member.issym() and not _stays_inside(inside, place, member.linkname):
            refused[member.name] = f"a link to {member.linkname}, outside of the run's directory"
        elif not member.issym() and not member.isreg():
            refused[member.name] = "neither a file nor a link"
        elif place.is_dir() and not place.is_symlink():
            refused[member.name] = "a folder of that name is here already"
        else:
            try:
                _write(tar, member, place)
            except (FileExistsError, NotADirectoryError):
                refused[member.name] = "a file lies in the way of its folder here"
            else:
                came[member.name] = member.size
    return came, refused


def _place(inside: Path, name: str) -> Path | None:
    """Where a member belongs; None when that is, or a link on the way makes it, outside of ``inside``."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return None
    place = inside / path
    return place if place.parent.resolve().is_relative_to(inside) else None


def _stays_inside(inside: Path, place: Path, link: str) -> bool:
    return not PurePosixPath(link).is_absolute() and (place.parent / link).resolve().is_relative_to(inside)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    if member.issym():
        place.symlink_to(member.linkname)
        return
    source = tar.extractfile(member)
    assert source is not None
    with source, place.open("xb") as stream:
        shutil.copyfileobj(source, stream, 1 << 20)
    if member.mode & 0o100:
        place.chmod(place.stat().st_mode | 0o100)
    os.utime(place, (member.mtime, member.mtime))

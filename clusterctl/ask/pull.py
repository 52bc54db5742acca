"""Brings files of a run from its hosts into a directory here, and never outside of it."""

from __future__ import annotations

import base64
import shutil
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import msgspec

from clusterctl.ask.bundle import REMOTE_COMMAND, pack
from clusterctl.ask.conversation import Conversation, listen
from clusterctl.settings import RUN, SSH
from clusterctl.transport.protocol import Channel, Failure, Transport


class Pulled(msgspec.Struct, frozen=True, kw_only=True):
    """What one host gave: relative path -> bytes. ``problem`` says in a sentence why it gave nothing."""

    host: str
    files: dict[str, int] = {}
    there: tuple[str, ...] = ()
    problem: str = ""


def pull(
    transport: Transport, roots: Mapping[str, str], path: str, digest: str, target: Path
) -> tuple[Pulled, ...]:
    """Copy ``path`` (or, when empty, what differs from the code snapshot) from each host into
    ``target/<host>``. ``roots``: host -> working directory of the run there."""
    deadline = time.monotonic() + RUN.sync_deadline
    found: dict[str, Pulled] = {}
    opening = time.monotonic() + SSH.probe_deadline
    for host, channel in transport.open_all(list(roots), REMOTE_COMMAND, opening):
        if isinstance(channel, Failure):
            found[host] = Pulled(host=host, problem=channel.message)
        else:
            request = {"root": roots[host], "path": path, "digest": digest, "deadline": RUN.sync_deadline}
            found[host] = _one(channel, request, target / host.replace("/", "_"), deadline)
    return tuple(found[host] for host in roots)


def _one(channel: Channel, request: Mapping[str, object], target: Path, deadline: float) -> Pulled:
    host = channel.host
    conversation = Conversation(channel)
    listing: Pulled | None = None
    whole = False
    with tempfile.TemporaryFile() as packed:
        try:
            channel.send(pack("pull", request, ("snapshot",)))
            for _, message in listen((conversation,), deadline):
                kind = message["is"] if message else "end"
                if message is None or kind == "missing":
                    break
                if kind == "listing":
                    listing = Pulled(host=host, files=message["files"], there=tuple(message["there"]))
                elif kind == "piece":
                    packed.write(base64.b64decode(message["data"]))
                elif kind == "done":
                    whole = True
                    break
        except (OSError, ValueError) as error:
            return Pulled(host=host, problem=f"the transfer broke off: {error}")
        finally:
            conversation.close()
        if listing is None:
            return Pulled(host=host, problem=f"there is no {request['root']} any more")
        if not whole:
            return Pulled(host=host, problem="the transfer broke off")
        if listing.files:
            packed.seek(0)
            with tarfile.open(fileobj=packed, mode="r:gz") as tar:
                _unpack(tar, target)
    return listing


def _unpack(tar: tarfile.TarFile, target: Path) -> None:
    """Regular files and harmless links only; a name that leads outside is refused."""
    target.mkdir(parents=True, exist_ok=True)
    for member in tar:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            continue
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.parent.resolve().is_relative_to(target.resolve()):
            continue
        if member.issym() and _stays_inside(member.linkname):
            place.unlink(missing_ok=True)
            place.symlink_to(member.linkname)
        elif member.isfile() and (source := tar.extractfile(member)) is not None:
            place.unlink(missing_ok=True)
            with source, place.open("wb") as stream:
                shutil.copyfileobj(source, stream)


def _stays_inside(link: str) -> bool:
    path = PurePosixPath(link)
    return not path.is_absolute() and ".." not in path.parts

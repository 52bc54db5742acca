"""Judges what `capture` has kept: every rule, no host. Whatever lies in the folder ends as material or as a
UsageError with its file and line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import msgspec

from clusterctl.ask.facts import CollectedFacts
from clusterctl.checks.selection import EVERY_RULE, Selection
from clusterctl.errors import UsageError
from clusterctl.facts.e2e import Proof
from clusterctl.facts.lasting import Baseline
from clusterctl.facts.model import Dial, Reachability
from clusterctl.inventory.model import Inventory
from clusterctl.plan import profile
from clusterctl.session import documents
from clusterctl.session.capture import SCHEMA, Header, HostRecord
from clusterctl.session.examine import Examination, judged
from clusterctl.session.material import Material
from clusterctl.store import files

Kind = TypeVar("Kind")

_BROKEN = "a folder of `clusterctl doctor --capture` is copied as a whole; is a file cut off or edited?"


def replay(
    folder: str | os.PathLike[str], selection: Selection = EVERY_RULE, baseline: Baseline | None = None
) -> Examination:
    """The examination whose `capture` wrote ``folder``, judged by the rules of this version.

    Raises UsageError for any other folder.
    """
    return judged(read(Path(folder)), selection, baseline)


def read(folder: Path) -> Material:
    """What ``folder`` holds. Raises UsageError with file and line."""
    header = _header(folder)
    inventory = documents.decoded(folder / "hostfile.json", Inventory, _BROKEN)
    if not inventory.names or len(set(inventory.names)) < len(inventory.names):
        raise _damaged(
            folder / "hostfile.json", "a host is named twice" if inventory.names else "no host is named"
        )
    records = _records(folder, inventory)
    facts = {host: record.facts for host, record in records.items() if record.facts}
    reachability = documents.decoded(folder / "traffic.json", Reachability, _BROKEN)
    if strangers := ({*reachability.listen_errors, *reachability.neighbours} - set(inventory.names)):
        raise _damaged(folder / "traffic.json", f"{min(strangers)!r} is no host of hostfile.json")
    proof = Proof()
    if files.is_regular(folder / "proof.json"):  # what an earlier version kept has none
        proof = documents.decoded(folder / "proof.json", Proof, _BROKEN)
    if strangers := proof.hosts - set(inventory.names):
        raise _damaged(folder / "proof.json", f"{min(strangers)!r} is no host of hostfile.json")
    dials = tuple(_dials(folder / "dials.jsonl", facts))
    return Material(
        taken=header.taken,
        inventory=inventory,
        profile=profile.decode(_text(folder / "profile.yaml"), str(folder / "profile.yaml")),
        answers=CollectedFacts(
            facts=facts,
            failures={host: record.failure for host, record in records.items() if record.failure},
            reachability=msgspec.structs.replace(reachability, dials=dials),
            proof=proof,
            seconds=header.seconds,
        ),
        settings={host: records[host].settings for host in facts},
        quick=header.quick,
        simulated=header.simulated,
        invocation=header.invocation,
    )


def _header(folder: Path) -> Header:
    path = folder / "capture.json"
    if not files.is_regular(path):
        what = "it has no capture.json" if folder.is_dir() else "there is no such folder"
        raise UsageError(
            f"--replay {folder}: {what}", hint="name a folder that `clusterctl doctor --capture` wrote"
        )
    schema = documents.schema_of(path, _BROKEN)
    if schema != SCHEMA:
        raise UsageError(
            f"{path}: its schema is {schema!r}, and this version reads {SCHEMA}",
            hint="replay it with the version that wrote it; `clusterctl` in that file names it",
        )
    return documents.decoded(path, Header, _BROKEN)


def _records(folder: Path, inventory: Inventory) -> dict[str, HostRecord]:
    """In the order of the inventory."""
    found: dict[str, HostRecord] = {}
    for path in sorted((folder / "hosts").glob("[!.]*.json")):
        record = documents.decoded(path, HostRecord, _BROKEN)
        problem = _problem(record)
        if record.host not in inventory.names:
            problem = f"{record.host!r} is no host of hostfile.json"
        elif record.host in found:
            problem = f"another file tells of {record.host!r}, too"
        if problem:
            raise _damaged(path, problem)
        found[record.host] = record
    for host in inventory.names:
        if host not in found:
            raise _damaged(folder / "hosts", f"no file tells of {host!r}")
    return {host: found[host] for host in inventory.names}


def _problem(record: HostRecord) -> str:
    """What the types do not say of a file in ``hosts/``; "" where all is well."""
    told = record.facts or record.failure
    if told is None or (record.facts and record.failure):
        return "it needs either facts or a failure"
    if told.host != record.host:
        return f"it is of {record.host!r}, but what is told is of {told.host!r}"
    for name in record.facts.names if record.facts else ():
        for address in name.addresses:
            if not _is_address(address.partition("%")[0]):
                return f"facts.names: {address!r} is no address"
    return ""


def _dials(path: Path, answered: dict[str, object] | dict[str, Kind]) -> Iterator[Dial]:
    decoder = msgspec.json.Decoder(Dial)
    for number, line in enumerate(documents.content(path, _BROKEN).splitlines(), start=1):
        try:
            dial = decoder.decode(line)
        except documents.ERRORS as error:
            raise _damaged(path, documents.said(error), line=number) from None
        for host in (dial.source, dial.target):
            if host not in answered:
                raise _damaged(path, f"{host!r} is no host that answered", line=number)
        if not _is_address(dial.address):
            raise _damaged(path, f"{dial.address!r} is no address", line=number)
        yield dial


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _text(path: Path) -> str:
    try:
        return documents.content(path, _BROKEN).decode()
    except UnicodeDecodeError:
        raise _damaged(path, "it is not UTF-8 text") from None


def _damaged(path: Path, problem: str, *, line: int = 0) -> UsageError:
    return documents.damaged(path, problem, _BROKEN, line=line)

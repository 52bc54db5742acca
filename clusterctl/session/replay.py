"""Judges what `capture` has kept: every rule, no host. Whatever lies in the folder ends as material or as a
UsageError with its file and line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from clusterctl.ask.facts import CollectedFacts
from clusterctl.checks.selection import EVERY_RULE, Selection
from clusterctl.errors import UsageError, in_words
from clusterctl.facts.e2e import AllReduce, Proof
from clusterctl.facts.model import Dial, Reachability
from clusterctl.inventory.model import Inventory
from clusterctl.plan import profile
from clusterctl.session.capture import SCHEMA, Header, HostRecord
from clusterctl.session.examine import Examination, judged
from clusterctl.session.material import Material
from clusterctl.store import files

Kind = TypeVar("Kind")

_BROKEN = "a folder of `clusterctl doctor --capture` is copied as a whole; is a file cut off or edited?"


class _Schema(msgspec.Struct):
    schema: str


def replay(folder: str | os.PathLike[str], selection: Selection = EVERY_RULE) -> Examination:
    """The examination whose `capture` wrote ``folder``, judged by the rules of this version.

    Raises UsageError for any other folder.
    """
    return judged(read(Path(folder)), selection)


def read(folder: Path) -> Material:
    """What ``folder`` holds. Raises UsageError with file and line."""
    header = _header(folder)
    inventory = _decoded(folder / "hostfile.json", Inventory)
    if not inventory.names or len(set(inventory.names)) < len(inventory.names):
        raise _damaged(
            folder / "hostfile.json", "a host is named twice" if inventory.names else "no host is named"
        )
    records = _records(folder, inventory)
    facts = {host: record.facts for host, record in records.items() if record.facts}
    reachability = _decoded(folder / "traffic.json", Reachability)
    if strangers := ({*reachability.listen_errors, *reachability.neighbours} - set(inventory.names)):
        raise _damaged(folder / "traffic.json", f"{min(strangers)!r} is no host of hostfile.json")
    proof = Proof()
    if files.is_regular(folder / "proof.json"):  # what an earlier version kept has none
        proof = _decoded(folder / "proof.json", Proof)
    if strangers := ({rank.host for rank in (proof.gloo or AllReduce()).ranks} - set(inventory.names)):
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
    schema = _decoded(path, _Schema).schema
    if schema != SCHEMA:
        raise UsageError(
            f"{path}: its schema is {schema!r}, and this version reads {SCHEMA}",
            hint="replay it with the version that wrote it; `clusterctl` in that file names it",
        )
    return _decoded(path, Header)


def _records(folder: Path, inventory: Inventory) -> dict[str, HostRecord]:
    """In the order of the inventory."""
    found: dict[str, HostRecord] = {}
    for path in sorted((folder / "hosts").glob("[!.]*.json")):
        record = _decoded(path, HostRecord)
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
    for number, line in enumerate(_content(path).splitlines(), start=1):
        try:
            dial = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _damaged(path, _said(error), line=number) from None
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


def _decoded(path: Path, kind: type[Kind]) -> Kind:
    content = _content(path)
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, _said(error), line=_line(content, str(error))) from None


def _content(path: Path) -> bytes:
    try:
        content = files.read(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=_BROKEN) from None
    if content is None:
        raise _damaged(path, "the file is missing")
    return content


def _text(path: Path) -> str:
    try:
        return _content(path).decode()
    except UnicodeDecodeError:
        raise _damaged(path, "it is not UTF-8 text") from None


def _damaged(path: Path, problem: str, *, line: int = 0) -> UsageError:
    return UsageError(f"{path}{f' line {line}' if line else ''}: {problem}", hint=_BROKEN)


def _said(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else in_words(error)


def _line(content: bytes, error: str) -> int:
    """The line that a decoder's error is about; 0 where nobody can tell."""
    if found := re.search(r"\(byte (\d+)\)", error):
        return content.count(b"\n", 0, int(found[1])) + 1
    if error.startswith("Input data was truncated"):
        return content.rstrip().count(b"\n") + 1
    place = error.partition(" - at `")[2].partition("[...]")[0]
    try:
        node = yaml.compose(content.decode(), Loader=yaml.BaseLoader)  # JSON is YAML, which knows its lines
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return 0
    line = 0
    for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", place):
        if isinstance(node, yaml.SequenceNode) and index and int(index) < len(node.value):
            node = node.value[int(index)]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            inside = next(((name, value) for name, value in node.value if name.value == key), None)
            if inside is None:
                break
            line, node = inside[0].start_mark.line + 1, inside[1]
    return line

"""Whose DeepSpeed a config is judged by: that of the hosts, of this Python, or what clusterctl brings."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import msgspec

from clusterctl.advise.lint.case import Origin
from clusterctl.advise.lint.schema import Schema, decode
from clusterctl.ask import deepspeed_schema
from clusterctl.errors import ClusterctlError
from clusterctl.facts.model import Facts
from clusterctl.session.progress import Progress, Silent
from clusterctl.session.told_by_python import told
from clusterctl.store import files
from clusterctl.store.home import home
from clusterctl.transport import Transport

Known = tuple[Schema, Origin]

_VERSION = re.compile(r"\d[\w.+!-]{0,60}")


def recorded() -> Schema:
    """The one that clusterctl brings."""
    return decode((resources.files("clusterctl") / "advise" / "lint" / "recorded.json").read_bytes())


def of_this_python() -> Known:
    """That of the DeepSpeed installed beside clusterctl where there is one, else the recorded one."""
    brought, version = recorded(), _installed_version()
    if version == brought.version:
        return brought, "installed"
    installed = _read(told("deepspeed_schema")) if version else None
    return (installed, "installed") if installed is not None else (brought, "recorded")


def of_hosts(facts: Mapping[str, Facts], link: Transport, progress: Progress = Silent) -> Known:
    """That of the version on the hosts: of the first that has one, for hosts which differ are a finding of
    their own. A version that nobody has told of yet is asked for there, and kept for the next time; where it
    does not say, as `of_this_python`.
    """
    having = {
        host: version for host, own in facts.items() if (version := own.python.packages.get("deepspeed"))
    }
    if not having:
        return of_this_python()
    host, version = next(iter(having.items()))
    brought = recorded()
    if version == brought.version:
        return brought, "hosts"
    kept = _kept(version)
    if kept is not None:
        return kept, "hosts"
    try:
        with progress((host,)) as asking:
            asking.awaiting("asking DeepSpeed there what it accepts", (host,))
            asked = deepspeed_schema.of_host(link, host, facts[host].python.executable)
    except ClusterctlError:
        asked = None
    if asked is None or asked.version != version:
        return of_this_python()
    _keep(asked)
    return asked, "hosts"


def _installed_version() -> str:
    try:
        return importlib.metadata.version("deepspeed")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _place(version: str) -> Path | None:
    return home() / "schemas" / f"deepspeed-{version}.json" if _VERSION.fullmatch(version) else None


def _kept(version: str) -> Schema | None:
    place = _place(version)
    try:
        found = _read(files.read(place)) if place is not None else None
    except OSError:
        return None
    return found if found is not None and found.version == version else None


def _keep(schema: Schema) -> None:
    place = _place(schema.version)
    if place is None:
        return
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(place, msgspec.json.encode(schema))
    except OSError:
        return  # it is asked again


def _read(data: bytes | None) -> Schema | None:
    try:
        return decode(data) if data is not None else None
    except msgspec.MsgspecError:
        return None

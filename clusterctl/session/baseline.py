"""The state of a cluster that is good, in a file: to keep in a repository, and to compare with later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from clusterctl.errors import UsageError
from clusterctl.facts.lasting import Baseline, HostState, state_of
from clusterctl.plan.redaction import Redaction
from clusterctl.session import documents
from clusterctl.session.examine import Examination

SCHEMA = "clusterctl.baseline/1"
_FAMILY = SCHEMA.partition("/")[0]
_HINT = "name a file that `clusterctl doctor --save-baseline` wrote"


def taken_from(seen: Examination) -> Baseline:
    """The state of all hosts that answered."""
    slots = {entry.name: entry.declared_slots for entry in seen.material.inventory.hosts}
    return Baseline(
        schema=SCHEMA,
        clusterctl=documents.version(),
        taken=seen.material.taken,
        hosts={
            host: state_of(facts, slots[host], seen.network) for host, facts in seen.answers.facts.items()
        },
    )


def text(baseline: Baseline) -> str:
    """A line for each value, so that two files can be compared by eye. A value with a secret in it is null:
    nobody can tell later whether it has changed."""
    hosts = {host: _without_secrets(state) for host, state in baseline.hosts.items()}
    document = msgspec.json.encode({**msgspec.to_builtins(baseline), "hosts": hosts})
    return msgspec.json.format(document, indent=2).decode() + "\n"


def _without_secrets(state: HostState) -> dict[str, Any]:
    redaction = Redaction()
    document: dict[str, Any] = msgspec.to_builtins(state)
    for subject, group in document.items():
        for name, value in (group or {}).items():
            if isinstance(value, str):
                named = name if subject == "settings" else ""
                group[name] = value if redaction.value(named, value) == value else None
    return document


def read(path: Path) -> Baseline:
    """Raises UsageError, with file, line and key, for whatever is no baseline."""
    if path.is_dir():
        raise UsageError(f"--baseline {path}: it is a folder", hint=_HINT)
    schema = documents.schema_of(path, _HINT)
    if schema != SCHEMA:
        if schema.partition("/")[0] == _FAMILY:
            raise UsageError(
                f"{path}: its schema is {schema!r}, and this version reads {SCHEMA}",
                hint="read it with the version that wrote it; `clusterctl` in that file names it",
            )
        raise UsageError(f"{path}: its schema is {schema!r}, not {SCHEMA}", hint=_HINT)
    found = documents.decoded(path, Baseline, _HINT)
    if not found.hosts:
        raise documents.damaged(path, "hosts: it names none", _HINT)
    return found

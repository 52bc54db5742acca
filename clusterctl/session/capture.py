"""Keeps the material of a report in a folder that can be handed on: readable files, no secrets.

``capture.json`` says what the folder is and comes last, ``hostfile.json`` names the hosts and their slots,
``profile.yaml`` what was expected of them, ``hosts/`` has a file for each of them with what it said,
``traffic.json`` and ``dials.jsonl`` have what they sent to one another, ``proof.json`` what they did
together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.facts.model import Facts
from clusterctl.network.model import Setting
from clusterctl.plan.profile import Profile
from clusterctl.plan.redaction import Redaction
from clusterctl.session import documents
from clusterctl.session.material import Invocation, Material
from clusterctl.store import files
from clusterctl.transport.protocol import Failure

SCHEMA = "clusterctl.capture/1"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """``capture.json``: what the folder is, and what was asked. ``clusterctl`` is the version that asked."""

    schema: str
    clusterctl: str
    taken: str
    seconds: float
    quick: bool
    simulated: bool
    invocation: Invocation


class HostRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A file of ``hosts/``: either ``facts``, with the variables of the run there, or ``failure``."""

    host: str
    facts: Facts | None = None
    failure: Failure | None = None
    settings: tuple[Setting, ...] = ()


def check(folder: Path) -> None:
    """Raises UsageError where `write` would: to be called before hosts are asked."""
    try:
        occupied = any(folder.iterdir())
        own = folder.stat().st_uid == os.geteuid()
    except FileNotFoundError:
        if not folder.parent.is_dir():
            raise UsageError(
                f"--capture {folder}: there is no folder {folder.parent}",
                hint="make it first, or name another",
            ) from None
        if not os.access(folder.parent, os.W_OK | os.X_OK):
            raise UsageError(
                f"--capture {folder}: you may not write in {folder.parent}", hint="name another folder"
            ) from None
        return
    except OSError as error:
        raise UsageError(
            f"--capture {folder}: {error.strerror}", hint="name a folder that is not there yet"
        ) from None
    if occupied or not own:
        what = "is not empty" if occupied else "belongs to somebody else"
        raise UsageError(f"--capture {folder}: the folder {what}", hint="name a folder that is not there yet")


def write(material: Material, folder: Path) -> None:
    """All of ``material`` into ``folder``, which only its owner may enter."""
    check(folder)
    redaction = Redaction(_variables(material), material.inventory.names)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        (folder / "hosts").mkdir(mode=0o700)
        for name, content in _files(material, redaction):
            files.write(folder / name, content)
    except OSError as error:
        raise ClusterctlError(
            f"--capture {folder} cannot be written: {error.strerror}", hint="name a folder on another disk"
        ) from error


def _files(material: Material, redaction: Redaction) -> Iterator[tuple[str, bytes]]:
    def document(value: Any) -> bytes:
        clean = redaction.everywhere(msgspec.to_builtins(value))
        return msgspec.json.format(msgspec.json.encode(clean), indent=2) + b"\n"

    answers = material.answers
    yield "hostfile.json", document(material.inventory)
    profile = redaction.everywhere(_given(msgspec.to_builtins(_of_profile(material.profile, redaction))))
    yield "profile.yaml", yaml.safe_dump(profile, sort_keys=False, allow_unicode=True).encode()
    for rank, host in enumerate(material.inventory.names):
        facts = answers.facts.get(host)
        record = HostRecord(
            host=host,
            facts=_of_facts(facts, redaction) if facts else None,
            failure=answers.failures.get(host),
            settings=_of_settings(material.settings.get(host, ()), redaction),
        )
        readable = re.sub(r"[^A-Za-z0-9@._-]", "_", host)[:80]
        yield f"hosts/{rank:04}-{readable}.json", document(record)
    yield "traffic.json", document(msgspec.structs.replace(answers.reachability, dials=()))
    dials = (
        msgspec.structs.replace(
            dial, detail=redaction.text(dial.detail), answered=redaction.text(dial.answered)
        )
        for dial in answers.reachability.dials
    )
    yield "dials.jsonl", b"".join(msgspec.json.encode(dial) + b"\n" for dial in dials)
    yield "proof.json", document(answers.proof)
    header = Header(
        schema=SCHEMA,
        clusterctl=documents.version(),
        taken=material.taken,
        seconds=answers.seconds,
        quick=material.quick,
        simulated=material.simulated,
        invocation=material.invocation,
    )
    yield "capture.json", document(header)


def _variables(material: Material) -> Iterator[tuple[str, str]]:
    """Every variable of which a value is known, from whatever source."""
    for facts in material.answers.facts.values():
        yield from ((each.name, each.value) for each in facts.variables)
        if facts.activation:
            yield from facts.activation.variables.items()
    for settings in material.settings.values():
        yield from ((each.name, each.value) for each in settings)
    yield from material.profile.env.items()
    for own in material.profile.hosts.values():
        yield from own.env.items()


def _of_facts(facts: Facts, redaction: Redaction) -> Facts:
    variables = tuple(
        msgspec.structs.replace(each, value=redaction.value(each.name, each.value))
        for each in facts.variables
    )
    activation = facts.activation
    if activation:
        activation = msgspec.structs.replace(activation, variables=_hidden(activation.variables, redaction))
    return msgspec.structs.replace(facts, variables=variables, activation=activation)


def _of_settings(settings: tuple[Setting, ...], redaction: Redaction) -> tuple[Setting, ...]:
    return tuple(
        msgspec.structs.replace(each, value=redaction.value(each.name, each.value)) for each in settings
    )


def _of_profile(profile: Profile, redaction: Redaction) -> Profile:
    hosts = {
        host: msgspec.structs.replace(own, env=_hidden(own.env, redaction))
        for host, own in profile.hosts.items()
    }
    return msgspec.structs.replace(profile, env=_hidden(profile.env, redaction), hosts=hosts)


def _hidden(variables: dict[str, str], redaction: Redaction) -> dict[str, str]:
    return {name: redaction.value(name, value) for name, value in variables.items()}


def _given(value: Any) -> Any:
    """Without what is empty: a profile may leave a key out, but not give it no value."""
    if not isinstance(value, dict):
        return value
    kept = {key: _given(each) for key, each in value.items()}
    return {key: each for key, each in kept.items() if each not in ("", {})}

"""What a run is to be, and its record: with that a later controller can do all that the first could.

Values of variables whose names are those of secrets are in no file: a later controller takes them from its
own environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from clusterctl.ask.tree import Tree
from clusterctl.errors import ClusterctlError
from clusterctl.inventory.model import Host
from clusterctl.plan.layers import Layers
from clusterctl.plan.model import LaunchPlan, Setting, Start
from clusterctl.plan.redaction import Redaction
from clusterctl.plan.variables import is_secret, shown
from clusterctl.session.options import LaunchOptions
from clusterctl.session.target import Target
from clusterctl.session.workload import Workload
from clusterctl.store.runs import RunDirectory

_NAME = "intent.json"
ACTIVATION = "the activation line of its profile"


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is to be, before any host is asked; the same for all its attempts."""

    run: str
    target: Target
    options: LaunchOptions
    workload: Workload
    layers: dict[str, Layers]
    start: Start
    log_limit: int
    notes: tuple[str, ...] = ()
    launched_in: str = ""
    pdsh_ssh_args: str = ""
    detached: bool = False
    spares: tuple[Host, ...] = ()

    def with_hosts(self, hosts: tuple[Host, ...], spares: tuple[Host, ...]) -> Intent:
        """The same run on other hosts, in the order of their node ranks."""
        inventory = msgspec.structs.replace(self.target.hosts.inventory, hosts=hosts)
        chosen = msgspec.structs.replace(self.target.hosts, inventory=inventory)
        target = msgspec.structs.replace(self.target, hosts=chosen)
        return msgspec.structs.replace(self, target=target, spares=spares)


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """A run that could start now, whole: any process can carry it out. ``clock_offsets``: seconds by which
    each host's clock is ahead."""

    plan: LaunchPlan
    intent: Intent
    clock_offsets: dict[str, float]


class Recalled(msgspec.Struct, frozen=True, kw_only=True):
    """A run as an earlier controller has written it down. ``lacks`` names variables whose values are in no
    file and not in the environment of this process either: no other attempt can follow without them.
    ``unknowable``: no environment could have brought them all."""

    ready: Ready
    lacks: tuple[str, ...] = ()
    unknowable: bool = False

    @property
    def without(self) -> str:
        """Why no other attempt can follow, for the operator; empty where one can."""
        were = "were" if len(self.lacks) > 1 else "was"
        return f"{', '.join(self.lacks)} {were} never written down" if self.lacks else ""

    @property
    def way_out(self) -> str:
        """What brings it back, of a run that is to begin again after failures; empty where nothing is."""
        options = self.ready.intent.options
        if not self.lacks or not options.max_restarts:
            return ""
        if self.unknowable:
            return "a new launch has it"
        given = " ".join(f"{name}=..." for name in self.lacks)
        return f"{given} clusterctl attach {self.ready.intent.run} brings it"


class _Clocks(msgspec.Struct, frozen=True, kw_only=True):
    clock_offsets: dict[str, float] = {}


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """``different``: what no environment can bring back, such as a secret that is not the same on all hosts.
    ``files`` and ``sizes`` are the tree's, as its manifest has them: their names need not be text."""

    intent: Any
    clock_offsets: dict[str, float]
    different: tuple[str, ...]
    files: dict[str, str]
    sizes: dict[str, int] = {}


def write_down(directory: RunDirectory, ready: Ready) -> None:
    """For a controller that takes over. Raises OSError."""
    intent = ready.intent
    tree, files, sizes = intent.workload.tree, dict[str, str](), dict[str, int]()
    if tree is not None:
        files, sizes = tree.manifest(), tree.spelled_sizes()
        tree = msgspec.structs.replace(tree, files={}, special=(), ignored=(), sizes={})
    hosts, profile = intent.target.hosts, intent.target.profile
    config = hosts.ssh_config.resolve() if hosts.ssh_config else None
    plain = msgspec.structs.replace(
        intent,
        options=msgspec.structs.replace(intent.options, env=()),  # they are in the layers
        workload=msgspec.structs.replace(intent.workload, tree=tree),
        layers={host: _each(own, _hide) for host, own in intent.layers.items()},
        target=msgspec.structs.replace(
            intent.target,
            hosts=msgspec.structs.replace(hosts, ssh_config=config),
            cluster=None,  # its variables are in the layers, too
            profile=msgspec.structs.replace(
                profile,
                env={},
                activate=_line(profile.activate),
                hosts={
                    host: msgspec.structs.replace(own, env={}, activate=_line(own.activate))
                    for host, own in profile.hosts.items()
                },
            ),
        ),
    )
    record = _Record(
        intent=msgspec.to_builtins(plain, enc_hook=str),
        clock_offsets=ready.clock_offsets,
        different=_different(intent),
        files=files,
        sizes=sizes,
    )
    directory.write(_NAME, record)


def clock_offsets(directory: RunDirectory) -> dict[str, float]:
    """Seconds by which each host's clock was ahead when the run began, as far as that is written down. Raises
    ClusterctlError where it cannot be read."""
    record = directory.find(_NAME, _Clocks)
    return {} if record is None else record.clock_offsets


def recall(directory: RunDirectory, environ: Mapping[str, str] = os.environ) -> Recalled | None:
    """None where nothing was written down, as by an earlier version. Raises ClusterctlError where it cannot
    be read."""
    record = directory.find(_NAME, _Record)
    if record is None:
        return None
    try:
        intent = msgspec.convert(record.intent, Intent, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        raise ClusterctlError(f"{directory.path / _NAME} cannot be read: {error}") from error
    if (tree := intent.workload.tree) is not None:
        tree = Tree.of_manifest(tree.root, record.files, tree.size, record.sizes)
        intent = msgspec.structs.replace(intent, workload=msgspec.structs.replace(intent.workload, tree=tree))
    hidden = {name for own in intent.layers.values() for name in _secrets(own)}
    lacks = sorted(name for name in hidden if name not in environ)
    intent = msgspec.structs.replace(
        intent,
        layers={host: _each(own, partial(_found, environ)) for host, own in intent.layers.items()},
    )
    ready = Ready(plan=directory.plan(), intent=intent, clock_offsets=record.clock_offsets)
    missing = tuple(dict.fromkeys((*record.different, *lacks)))
    return Recalled(ready=ready, lacks=missing, unknowable=bool(record.different))


def _hide(setting: Setting) -> Setting:
    return Setting(setting.name, shown(setting), setting.origin)


def _found(environ: Mapping[str, str], setting: Setting) -> Setting:
    if not is_secret(setting.name):
        return setting
    return Setting(setting.name, environ.get(setting.name, ""), setting.origin)


def _each(layers: Layers, change: Callable[[Setting], Setting]) -> Layers:
    return Layers(above=tuple(map(change, layers.above)), below=tuple(map(change, layers.below)))


def _secrets(layers: Layers) -> dict[str, str]:
    return {each.name: each.value for each in layers.merged() if is_secret(each.name)}


def _line(activate: str) -> str:
    return Redaction().text(activate)


def _different(intent: Intent) -> tuple[str, ...]:
    values: dict[str, set[str]] = {}
    for own in intent.layers.values():
        for name, value in _secrets(own).items():
            values.setdefault(name, set()).add(value)
    found = [name for name, of_hosts in sorted(values.items()) if len(of_hosts) > 1]
    lines = {intent.target.profile.activate_of(host) for host in intent.layers}
    return (*found, *([ACTIVATION] if any(_line(line) != line for line in lines) else []))

"""Which hosts a verb works on: find the hostfile, read it, select from it; or those of a run."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from clusterctl.errors import NoHostsError, UsageError
from clusterctl.inventory.hostfile import parse
from clusterctl.inventory.model import Inventory
from clusterctl.inventory.select import select
from clusterctl.plan.model import LaunchPlan
from clusterctl.settings import HOME_VARIABLE, HOSTFILE_VARIABLE, JOB_HOSTFILE, SSH_CONFIG_VARIABLE
from clusterctl.store import files
from clusterctl.store.home import home
from clusterctl.transport import Transport, connect

if TYPE_CHECKING:
    from clusterctl.sandbox import Sandbox


class Hosts(msgspec.Struct, frozen=True, kw_only=True):
    """The selected hosts. ``how`` is one line for the screen: ``hosts: hostfiles/lab (4 hosts, 7 slots)``.

    ``known`` names every host of the file, chosen or not. ``ssh_config`` None means what `ssh` itself reads.
    ``simulated``: a sandbox without namespaces, in which network checks mean nothing. ``virtual``: any
    sandbox, whose hosts are one machine, although each tells of a boot of its own.
    """

    inventory: Inventory
    known: tuple[str, ...]
    ssh_config: Path | None
    simulated: bool
    how: str
    virtual: bool = False


def transport_of(plan: LaunchPlan) -> Transport:
    """The way to a run's hosts, as its launch took it. Nothing is contacted yet. Raises UsageError where that
    is gone, as after `Cluster.sandbox`."""
    config = Path(plan.ssh_config) if plan.ssh_config else None
    if config is not None and not config.exists():
        raise UsageError(
            f"the ssh config {config} of its launch is gone",
            hint=f"are its hosts, too? `clusterctl clean {plan.run} --here-only` removes what is here",
        )
    return connect(plan.transport, config)


def resolve(
    hostfile: str | Path | None,
    *,
    nodes: int | None = None,
    gpus_per_node: int | None = None,
    include: str = "",
    exclude: str = "",
    ssh_config: str | Path | None = None,
    ssh_port: int | None = None,
) -> Hosts:
    """The hosts of ``hostfile``, or of the first default there is. Raises UsageError; never falls back to
    running on this machine."""
    path, source, sandbox = _find(hostfile)
    everything = parse(_read(path), str(source))
    chosen = select(everything, nodes=nodes, gpus_per_node=gpus_per_node, include=include, exclude=exclude)
    config = ssh_config or os.environ.get(SSH_CONFIG_VARIABLE, "")
    if config:
        ssh_path: Path | None = Path(config).expanduser()
    else:
        ssh_path = sandbox.ssh_config if sandbox else None
    if ssh_port is not None:
        ssh_path = _with_port(ssh_path, everything.names, ssh_port)
    return Hosts(
        inventory=chosen,
        known=everything.names,
        ssh_config=ssh_path,
        simulated=sandbox is not None and sandbox.state.simulated,
        how=_how(everything, chosen, sandbox),
        virtual=sandbox is not None,
    )


def _with_port(config: Path | None, names: tuple[str, ...], port: int) -> Path:
    """A file that says ``port`` of these hosts, and of all else what ``config`` says, or what ssh reads.

    Jump hosts keep their own port, as with `ssh -p`. It stays: later verbs reach the hosts of a run by it.
    """
    if not 0 < port < 65536:
        raise UsageError(f"--ssh-port {port} is not a port", hint="--ssh-port 2222")
    read = [config.resolve()] if config else ["~/.ssh/config", "/etc/ssh/ssh_config"]
    patterns = [name.rpartition("@")[2] for name in names]
    lines = [*(f'Host "{each}"\n    Port {port}' for each in patterns), "Match all"]
    lines += [f'    Include "{path}"' for path in read]
    text = "\n".join(lines) + "\n"
    folder = home() / "ssh"
    path = folder / f"port-{port}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    with files.explained(home(), HOME_VARIABLE):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(path, text.encode())
    return path


def of_sandbox(sandbox: Sandbox) -> Hosts:
    """All hosts of a running sandbox."""
    everything = parse(_read(sandbox.hostfile), str(sandbox.hostfile))
    return Hosts(
        inventory=everything,
        known=everything.names,
        ssh_config=sandbox.ssh_config,
        simulated=sandbox.state.simulated,
        how=_how(everything, everything, sandbox),
        virtual=True,
    )


def _find(hostfile: str | Path | None) -> tuple[Path, str | Path, Sandbox | None]:
    """(file, its name in messages, the sandbox it belongs to)."""
    named = hostfile or os.environ.get(HOSTFILE_VARIABLE, "")
    if named:
        path = Path(named).expanduser()
        try:
            path.stat()
        except OSError as error:
            by = "" if hostfile else f" (from ${HOSTFILE_VARIABLE})"
            absent = isinstance(error, FileNotFoundError)
            reason = "does not exist" if absent else f"cannot be read: {error.strerror}"
            raise UsageError(f"the hostfile {named}{by} {reason}", hint=_CURES) from error
        return path, str(named), _sandbox_of(path)
    for default in (Path("hostfile"), Path(JOB_HOSTFILE)):
        if default.is_file():
            return default, default, _sandbox_of(default)
    from clusterctl.sandbox import running_default

    sandbox = running_default()
    if sandbox is None:
        raise NoHostsError(
            f"no hosts: no -H, ${HOSTFILE_VARIABLE}, ./hostfile or {JOB_HOSTFILE}",
            hint=_CURES,
        )
    return sandbox.hostfile, sandbox.hostfile, sandbox


_CURES = "clusterctl init HOST... writes one; clusterctl sandbox up: virtual hosts"


def _sandbox_of(path: Path) -> Sandbox | None:
    from clusterctl.sandbox.lifecycle import find
    from clusterctl.sandbox.state import sandboxes

    resolved = path.resolve()
    inside = resolved.parent.parent == sandboxes(None).resolve() and resolved.name == "hostfile"
    return find(resolved.parent.name) if inside else None


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(
            f"the hostfile {path} cannot be read: {error.strerror}", hint="name a text file with -H"
        ) from error
    if "\0" in text:
        raise UsageError(f"the hostfile {path} is not plain text", hint="save it as UTF-8")
    return text


def _how(everything: Inventory, chosen: Inventory, sandbox: Sandbox | None) -> str:
    name = f"the running sandbox '{sandbox.name}'" if sandbox else everything.source
    slots = f"{chosen.world_size} slot{'' if chosen.world_size == 1 else 's'}"
    if chosen.names == everything.names:
        return f"hosts: {name} ({len(chosen.hosts)} host{'' if len(chosen.hosts) == 1 else 's'}, {slots})"
    return f"hosts: {name} ({len(chosen.hosts)} of {len(everything.hosts)} hosts, {slots})"

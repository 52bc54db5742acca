"""Bringing a sandbox up, finding it again, taking it down."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.sandbox import files, holder_link, login, loopback, sshd, state, uplink
from clusterctl.sandbox.addresses import known_neighbours, plan_addresses
from clusterctl.sandbox.cores import shares
from clusterctl.sandbox.host import VirtualHost
from clusterctl.sandbox.spec import FileSpec, HostSpec, check_hosts, check_name
from clusterctl.sandbox.state import HostState, Mode, Places, ProcessId, SandboxState
from clusterctl.settings import SANDBOX


class Sandbox:
    """A running sandbox. As a context manager it is taken down at the end of the block."""

    def __init__(self, places: Places, recorded: SandboxState, home: Path | None) -> None:
        self._places = places
        self._home = home
        self.state = recorded
        self.name = recorded.name
        self.directory = places.directory
        self.hostfile = places.hostfile
        self.ssh_config = places.ssh_config
        self.known_hosts = places.known_hosts
        self.hosts = tuple(VirtualHost(host, recorded, places) for host in recorded.hosts)

    @classmethod
    def create(
        cls, name: str, hosts: Sequence[HostSpec], home: Path | None = None, *, simulated: bool = False
    ) -> Sandbox:
        """Bring it up, or return the one that already runs with exactly these hosts.

        ``simulated``: no namespaces, only sshd on 127.0.0.2 and so on. Raises ClusterctlError when a
        sandbox of that name runs with other hosts, and when the machine does not allow one.
        """
        check_name(name)
        check_hosts(hosts)
        places = Places(home, name)
        with state.locked(home):
            running = state.load(places)
            if running is not None and running.alive:
                if running.fingerprint != _fingerprint(hosts, simulated):
                    raise ClusterctlError(
                        f"the sandbox {name!r} runs already, with other hosts: {_summary(running)}",
                        hint=f"clusterctl sandbox down --name {name}, then bring it up again",
                    )
                return cls(places, running, home)
            _clear(places)
            try:
                built = _build(places, name, hosts, simulated, home)
                box = cls(places, built, home)
                for spec in hosts:
                    for path, file in spec.files.items():
                        wanted = file if isinstance(file, FileSpec) else FileSpec(file)
                        box.host(spec.name).install(path, wanted.content, wanted.mode)
            except BaseException:
                _clear(places)
                raise
        return box

    @classmethod
    def load(cls, name: str, home: Path | None = None) -> Sandbox:
        """The running sandbox of that name. Raises ClusterctlError when none runs."""
        found = find(name, home)
        if found is None:
            half = Places(home, name).directory.exists()
            raise ClusterctlError(
                f"no sandbox {name!r} runs" + (" (what is left of it is from before)" if half else ""),
                hint="clusterctl sandbox up" + (f" --name {name}" if name != SANDBOX.name else ""),
            )
        return found

    @property
    def is_default(self) -> bool:
        """Whether commands use it when no hostfile is named."""
        chosen = running_default(self._home)
        return chosen is not None and chosen.name == self.name

    def host(self, name: str) -> VirtualHost:
        """The host of that name. Raises UsageError naming those there are."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise UsageError(f"the sandbox {self.name!r} has no host {name!r}", hint=f"its hosts: {known}")

    def down(self) -> None:
        """End every process in it and remove its files. Does nothing when it is gone already."""
        take_down(self.name, self._home)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()


def running_default(home: Path | None = None) -> Sandbox | None:
    """The sandbox commands use when no hostfile is named: `default`, else the only one that runs."""
    running = [found for found in (find(name, home) for name in state.names(home)) if found]
    for box in running:
        if box.name == SANDBOX.name:
            return box
    return running[0] if len(running) == 1 else None


def find(name: str, home: Path | None = None) -> Sandbox | None:
    """The sandbox of that name if it runs."""
    check_name(name)
    places = Places(home, name)
    recorded = state.load(places)
    return Sandbox(places, recorded, home) if recorded is not None and recorded.alive else None


def take_down(name: str, home: Path | None = None) -> bool:
    """End and remove what there is of a sandbox, half-finished or whole. False when there is nothing."""
    check_name(name)
    places = Places(home, name)
    if not places.directory.exists():
        return False
    with state.locked(home):
        _clear(places)
    return True


def _build(
    places: Places, name: str, hosts: Sequence[HostSpec], simulated: bool, home: Path | None
) -> SandboxState:
    mode: Mode = "loopback" if simulated else "root" if os.geteuid() == 0 else "user"
    cache = places.root / ".cache"
    server = sshd.find_sshd(cache)
    recorded = _first_state(places, name, hosts, mode, home, server)
    places.directory.mkdir(mode=0o700)
    state.save(places, recorded)
    files.write_client_files(places, recorded)
    if mode == "loopback":
        return loopback.start(places, recorded, server)
    files.write_host_files(places, recorded, server)
    ip = uplink.ip_binary()

    def record(holder: ProcessId) -> dict[str, Any]:
        nonlocal recorded
        recorded = msgspec.structs.replace(recorded, holder=holder)
        state.save(places, recorded)
        if recorded.link:
            lan = recorded.networks[0]
            prefix = IPv4Network(lan.subnet).prefixlen
            uplink.connect(recorded.link, lan.controller, prefix, holder.pid)
        return _plan(places, recorded, ip, cache)

    holder, pids = holder_link.build(mode, places, record)
    started = tuple(
        msgspec.structs.replace(host, pid=pids[host.name], start=state.identity(pids[host.name]).start)
        for host in recorded.hosts
    )
    recorded = msgspec.structs.replace(recorded, phase="running", holder=holder, hosts=started)
    state.save(places, recorded)
    return recorded


def _first_state(
    places: Places,
    name: str,
    hosts: Sequence[HostSpec],
    mode: Mode,
    home: Path | None,
    server: sshd.SshServer,
) -> SandboxState:
    login_name = pwd.getpwuid(os.getuid()).pw_name
    networks, cards = plan_addresses(str(places.directory), hosts, tuple(_taken(home)))
    if mode == "loopback":
        networks, cards = loopback.addresses(hosts)
    return SandboxState(
        name=name,
        phase="starting",
        mode=mode,
        simulated=mode == "loopback",
        boot=state.boot_id(),
        fingerprint=_fingerprint(hosts, mode == "loopback"),
        holder=None,
        link=uplink.link_name(places.directory) if mode == "root" else "",
        session=login.login_environment(places.root / ".cache"),
        sshd_environment=server.environment,
        networks=networks,
        hosts=tuple(
            HostState(
                name=spec.name,
                slots=spec.slots,
                user=login_name if mode == "loopback" or spec.user is None else spec.user,
                port=SANDBOX.loopback_port if mode == "loopback" else spec.port,
                nics=nics,
                sshd=tuple(files.sshd_command(places, spec.name, server)),
            )
            for spec, nics in zip(hosts, cards, strict=True)
        ),
    )


def _plan(places: Places, recorded: SandboxState, ip: str, cache: Path) -> dict[str, Any]:
    """What the holder is told: plain JSON, because it runs without msgspec."""
    return {
        "ip": ip,
        "uid": os.getuid(),
        "gid": os.getgid(),
        "home": str(places.home),
        "uplink": uplink.SWITCH_END if recorded.link else "",
        "keep": login.kept_directories(places.directory, cache),
        "sshd_env": recorded.sshd_environment,
        "neighbours": known_neighbours(host.nics for host in recorded.hosts),
        "networks": [
            {
                "bridge": network.bridge,
                "prefix": IPv4Network(network.subnet).prefixlen,
                "address": "" if recorded.link else network.controller,
            }
            for network in recorded.networks
        ],
        "hosts": [
            {
                "name": host.name,
                "cores": cores,
                "port": host.port,
                "directory": str(places.host(host.name)),
                "sshd": host.sshd,
                "binds": files.binds(places, host.name),
                "nics": msgspec.to_builtins(host.nics),
            }
            for host, cores in zip(recorded.hosts, shares(len(recorded.hosts)), strict=True)
        ],
    }


def _taken(home: Path | None) -> Iterator[IPv4Network]:
    yield from uplink.routed_subnets()
    for name in state.names(home):
        other = state.load(Places(home, name))
        for network in other.networks if other else ():
            yield IPv4Network(network.subnet)


def _clear(places: Places) -> None:
    """End what the state names and remove the files. A state from before a reboot names nobody."""
    recorded = state.load(places)
    if recorded is not None:
        if recorded.boot == state.boot_id():
            for process in (recorded.holder, *(host.process for host in recorded.hosts)):
                if process is not None and process.pid:
                    holder_link.end(process)
        if recorded.mode == "loopback":
            loopback.end_sessions(places)
        if recorded.link:
            uplink.disconnect(recorded.link)
    if places.directory.exists():
        _remove(places.directory)


def _remove(directory: Path) -> None:
    try:
        shutil.rmtree(directory)
    except PermissionError:
        # Directories that a host's user, or the kernel's overlay, made unwritable for us.
        for path, names, _ in os.walk(directory):
            for name in names:
                inner = Path(path, name)
                if not inner.is_symlink():
                    inner.chmod(stat.S_IRWXU)
        shutil.rmtree(directory)


def _fingerprint(hosts: Sequence[HostSpec], simulated: bool) -> str:
    return hashlib.sha256(msgspec.json.encode([simulated, list(hosts)])).hexdigest()[:16]


def _summary(recorded: SandboxState) -> str:
    return ", ".join(f"{host.name} slots={host.slots}" for host in recorded.hosts[:8]) + (
        f" and {len(recorded.hosts) - 8} more" if len(recorded.hosts) > 8 else ""
    )

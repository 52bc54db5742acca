"""What is remembered about a sandbox between commands: one JSON file, written before each step is taken."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from clusterctl.errors import ClusterctlError
from clusterctl.sandbox import kernel
from clusterctl.sandbox.addresses import WiredNetwork, WiredNic
from clusterctl.settings import HOME_VARIABLE

SCHEMA = "clusterctl.sandbox/1"
Mode = Literal["root", "user", "loopback"]


class ProcessId(msgspec.Struct, frozen=True):
    """One process for as long as the machine stays up: its pid and its start time (ticks since boot)."""

    pid: int
    start: int

    @property
    def alive(self) -> bool:
        """Whether this very process still exists."""
        try:
            return kernel.start_time(self.pid) == self.start
        except OSError:
            return False


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """A host as it was built. ``pid`` and ``start`` are its first process, seen from the user's machine."""

    name: str
    slots: int
    user: str
    port: int
    nics: tuple[WiredNic, ...]
    sshd: tuple[str, ...] = ()
    pid: int = 0
    start: int = 0

    @property
    def address(self) -> str:
        return self.nics[0].address

    @property
    def process(self) -> ProcessId:
        return ProcessId(self.pid, self.start)


class SandboxState(msgspec.Struct, frozen=True, kw_only=True):
    """``phase`` is ``starting`` until every host answered. ``link`` is the one network card that stands in
    the user's own network namespace (``""``: none). ``boot`` tells a state from before a reboot.
    """

    name: str
    phase: Literal["starting", "running"]
    mode: Mode
    simulated: bool
    boot: str
    fingerprint: str
    holder: ProcessId | None
    link: str
    session: dict[str, str]
    sshd_environment: dict[str, str]
    networks: tuple[WiredNetwork, ...]
    hosts: tuple[HostState, ...]
    schema: str = SCHEMA

    @property
    def alive(self) -> bool:
        """Whether its processes are those recorded, since the last boot of this machine."""
        if self.phase != "running" or self.boot != boot_id():
            return False
        if self.mode == "loopback":
            return all(host.process.alive for host in self.hosts)
        return self.holder is not None and self.holder.alive


class Places:
    """Where the files of one sandbox lie."""

    def __init__(self, home: Path | None, name: str) -> None:
        self.root = sandboxes(home)
        self.directory = self.root / name
        self.state = self.directory / "state.json"
        self.hostfile = self.directory / "hostfile"
        self.ssh_config = self.directory / "ssh_config"
        self.known_hosts = self.directory / "known_hosts"
        self.identity = self.directory / "id_ed25519"
        self.authorized_keys = self.directory / "authorized_keys"
        self.home = self.directory / "home"
        self.holder_log = self.directory / "holder.log"

    def host(self, name: str) -> Path:
        """The directory of one host: its home, its temporary files, its sshd's log."""
        return self.directory / "hosts" / name


def sandboxes(home: Path | None) -> Path:
    """The directory that holds all sandboxes of ``home`` (default ``$CLUSTERCTL_HOME`` or ~/.clusterctl)."""
    base = home or Path(os.environ.get(HOME_VARIABLE) or Path.home() / ".clusterctl")
    return base.expanduser().absolute() / "sandbox"


def names(home: Path | None) -> tuple[str, ...]:
    """Every sandbox with files here, running or not."""
    root = sandboxes(home)
    try:
        if not root.is_dir():
            return ()
        return tuple(sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")))
    except PermissionError as error:
        raise _unusable(root, error) from error


def _unusable(root: Path, error: OSError) -> ClusterctlError:
    return ClusterctlError(
        f"clusterctl cannot keep its sandboxes in {root}: {error.strerror}",
        hint=f"choose another directory of your own: export {HOME_VARIABLE}=/some/where",
    )


def load(places: Places) -> SandboxState | None:
    """The recorded state; None when there is none. Raises ClusterctlError for one it cannot read."""
    try:
        text = places.state.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise _unusable(places.root, error) from error
    try:
        return msgspec.json.decode(text, type=SandboxState)
    except msgspec.MsgspecError as error:
        raise ClusterctlError(
            f"{places.state} cannot be read: {error}",
            hint=f"reboot, or end its processes by hand, then remove {places.directory}",
        ) from error


def save(places: Places, state: SandboxState) -> None:
    """Replace the recorded state in one step."""
    fresh = places.state.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=1))
    fresh.chmod(0o600)
    fresh.replace(places.state)


@contextmanager
def locked(home: Path | None) -> Iterator[None]:
    """One `up` or `down` at a time: subnets are chosen by looking at what is there."""
    root = sandboxes(home)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(root, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def identity(pid: int) -> ProcessId:
    """The process that has this pid now. Raises OSError when there is none."""
    return ProcessId(pid, kernel.start_time(pid))


def boot_id() -> str:
    """Changes with every boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

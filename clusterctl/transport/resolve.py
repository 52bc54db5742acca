"""Asks OpenSSH where names lead (`ssh -G`), which knows Include and every Match; of hosts alike only one."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import threading
import time
from pathlib import Path

import msgspec

from clusterctl.transport.endpoint import Endpoint, read, tilde
from clusterctl.transport.protocol import Failure
from clusterctl.transport.ssh_config import Likeness, NotUnderstood, SshConfig

_RESOLVERS = threading.BoundedSemaphore(4 * (os.cpu_count() or 1))
# What ssh itself refuses in names since 9.6: a ProxyCommand's %h and %r reach a shell.
_UNSAFE = re.compile(r"""[\s'"`$\\;&<>|(){}\x00-\x1f\x7f]""")
_READ_FILE = "debug1: Reading configuration data "
_AT_LINE = re.compile(r"(?P<file>.+?):? line (?P<line>\d+): (?P<what>.+)")


def resolve(
    name: str, config: Path | None, deadline: float, *, port: int | None = None
) -> Endpoint | Failure:
    """Ask `ssh -G` before ``deadline`` (time.monotonic). ``name`` may be ``user@host``."""
    told = _ask_ssh(name, config, deadline, port)
    return told if isinstance(told, Failure) else read(name, told.options, config)


class _Told(msgspec.Struct, frozen=True):
    """What `ssh -G` says of a host, and the configuration files that it has read for it."""

    options: str
    files: tuple[str, ...]


def _ask_ssh(name: str, config: Path | None, deadline: float, port: int | None) -> _Told | Failure:
    if name.startswith("-") or not name or _UNSAFE.search(name):
        return Failure(
            host=name,
            stage="resolve",
            message=f"'{name}' cannot be a host name",
            hint="names hold no spaces, quotes or shell signs and do not begin with '-'",
        )
    command = ["ssh", "-G"]
    command += ["-F", str(config)] if config else []
    command += ["-p", str(port)] if port else []
    try:
        with _RESOLVERS:
            answer = subprocess.run(
                [*command, "-v", "--", name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=max(0.1, deadline - time.monotonic()),
                check=False,
            )
    except OSError as error:
        return Failure(
            host=name,
            stage="resolve",
            message=f"`ssh -G` cannot be started: {error.strerror}",
            hint="ulimit -n and ulimit -u show how many files and processes this machine allows",
        )
    except subprocess.TimeoutExpired:
        return Failure(
            host=name,
            stage="deadline",
            message="`ssh -G` did not finish in time",
            hint=f"run `{shlex.join([*command, name])}`: a Match exec or a slow name server may hold it up",
        )
    said = answer.stderr.decode(errors="replace").splitlines()
    if answer.returncode != 0:
        message, where = _complaint([line for line in said if not line.startswith("debug")])
        return Failure(
            host=name,
            stage="resolve",
            message=message or f"`ssh -G` ended with {answer.returncode}",
            hint=f"correct {where or config or 'your ssh_config'}; "
            f"`{shlex.join([*command, name])}` must work",
        )
    files = tuple(line.removeprefix(_READ_FILE) for line in said if line.startswith(_READ_FILE))
    return _Told(answer.stdout.decode(errors="replace"), files)


class _Group:
    """Hosts that the configuration treats alike: ssh is asked about one of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.told: Endpoint | None = None
        """The one that ssh was asked about."""
        self.apart = False
        """ssh sees more in the configuration than we do: each host is asked for by itself."""


class Endpoints:
    """Endpoints by name, each asked for once, and of hosts that are alike only one. From any thread."""

    def __init__(self, config: Path | None) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int | None], Endpoint] = {}
        self._groups: dict[tuple[tuple[str, str], ...], _Group] = {}
        self._ssh_config: SshConfig | None = None
        self._read_config = False

    def get(self, name: str, deadline: float, port: int | None = None) -> Endpoint | Failure:
        """See `resolve`."""
        with self._lock:
            known = self._known.get((name, port))
            likeness = self._likeness(name) if known is None and port is None else None
            group = self._groups.setdefault(likeness.shared, _Group()) if likeness else None
        if known is not None:
            return known
        if likeness is None or group is None:
            endpoint = resolve(name, self._config, deadline, port=port)
        else:
            endpoint = self._one_of(group, likeness, name, deadline)
        if isinstance(endpoint, Endpoint):
            with self._lock:
                self._known[name, port] = endpoint
        return endpoint

    def _likeness(self, name: str) -> Likeness | None:
        if not self._read_config:
            self._read_config = True
            with contextlib.suppress(NotUnderstood):
                self._ssh_config = SshConfig(self._config)
        return self._ssh_config.likeness(name) if self._ssh_config else None

    def _one_of(self, group: _Group, likeness: Likeness, name: str, deadline: float) -> Endpoint | Failure:
        if not group.lock.acquire(timeout=max(0.1, deadline - time.monotonic())):
            return resolve(name, self._config, deadline)
        try:
            if group.told is None and not group.apart:
                told = _ask_ssh(name, self._config, deadline, None)
                if isinstance(told, Failure):
                    group.apart = True
                    return told
                endpoint = read(name, told.options, self._config)
                if self._understood(told, endpoint, likeness):
                    group.told = endpoint
                else:
                    group.apart = True
                return endpoint
        finally:
            group.lock.release()
        if group.apart or group.told is None:
            return resolve(name, self._config, deadline)
        return msgspec.structs.replace(group.told, name=name, **likeness.own)

    def _understood(self, told: _Told, endpoint: Endpoint, likeness: Likeness) -> bool:
        """Whether ssh has read the files that we have read, and sees in them what we see."""
        read_here = tuple(self._ssh_config.files) if self._ssh_config else ()
        return told.files == read_here and msgspec.structs.replace(endpoint, **likeness.own) == endpoint

    def address_of(self, name: str) -> tuple[str, int] | None:
        """See `Transport.address_of`."""
        with self._lock:
            endpoint = self._known.get((name, None))
        return (endpoint.hostname, endpoint.port) if endpoint is not None else None


def _complaint(text: list[str]) -> tuple[str, str]:
    """(what ssh says about a configuration, the file and line it means): its first sentence that names a
    line, because the last one only counts them."""
    lines = [line.strip() for line in text if line.strip()]
    for line in lines:
        found = _AT_LINE.match(line)
        if found:
            where = f"{tilde(Path(found['file']))} line {found['line']}"
            return f"{where}: {found['what']}", where
    return (lines[-1] if lines else ""), ""

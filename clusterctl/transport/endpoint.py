"""Where a host name leads: OpenSSH's own answer (`ssh -G`), which knows Include and every Match."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import stat
import subprocess
import threading
import time
from pathlib import Path

import msgspec

from clusterctl.transport.protocol import Failure

_RESOLVERS = threading.BoundedSemaphore(4 * (os.cpu_count() or 1))
# What ssh itself refuses in names since 9.6: a ProxyCommand's %h and %r reach a shell.
_UNSAFE = re.compile(r"""[\s'"`$\\;&<>|(){}\x00-\x1f\x7f]""")
_AT_LINE = re.compile(r"(?P<file>.+?):? line (?P<line>\d+): (?P<what>.+)")
# ssh takes the home directory from the password database, not from $HOME.
_HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How ssh would reach ``name``. ``connect_timeout`` is seconds, None where the config sets none."""

    name: str
    hostname: str
    port: int = 22
    user: str
    identity_files: tuple[Path, ...] = ()
    certificate_files: tuple[Path, ...] = ()
    identities_only: bool = False
    identity_agent: str = ""
    user_known_hosts: tuple[Path, ...] = ()
    global_known_hosts: tuple[Path, ...] = ()
    host_key_alias: str = ""
    strict_host_keys: str = "ask"
    hash_known_hosts: bool = False
    jumps: tuple[str, ...] = ()
    proxy_command: str = ""
    address_family: str = "any"
    connect_timeout: float | None = None
    config: Path | None = None

    @property
    def key_names(self) -> tuple[str, ...]:
        """Names a host key may be filed under, the first is the one to write."""
        if self.host_key_alias:
            return (self.host_key_alias.lower(),)
        host = self.hostname.lower()
        return (host,) if self.port == 22 else (f"[{host}]:{self.port}", host)

    @property
    def address(self) -> str:
        return self.hostname if self.port == 22 else f"{self.hostname} port {self.port}"


def resolve(
    name: str, config: Path | None, deadline: float, *, port: int | None = None
) -> Endpoint | Failure:
    """Ask `ssh -G` before ``deadline`` (time.monotonic). ``name`` may be ``user@host``."""
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
                [*command, "--", name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=max(0.1, deadline - time.monotonic()),
                check=False,
            )
    except subprocess.TimeoutExpired:
        return Failure(
            host=name,
            stage="deadline",
            message="`ssh -G` did not finish in time",
            hint=f"run `{shlex.join([*command, name])}`: a Match exec or a slow name server may hold it up",
        )
    if answer.returncode != 0:
        message, where = _complaint(answer.stderr.decode(errors="replace"))
        return Failure(
            host=name,
            stage="resolve",
            message=message or f"`ssh -G` ended with {answer.returncode}",
            hint=f"correct {where or config or 'your ssh_config'}; "
            f"`{shlex.join([*command, name])}` must work",
        )
    return read(name, answer.stdout.decode(errors="replace"), config)


class Endpoints:
    """Endpoints by name, each asked for once. From any thread."""

    def __init__(self, config: Path | None) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int | None], Endpoint] = {}

    def get(self, name: str, deadline: float, port: int | None = None) -> Endpoint | Failure:
        """See `resolve`."""
        with self._lock:
            known = self._known.get((name, port))
        if known is not None:
            return known
        endpoint = resolve(name, self._config, deadline, port=port)
        if isinstance(endpoint, Endpoint):
            with self._lock:
                self._known[name, port] = endpoint
        return endpoint

    def address_of(self, name: str) -> tuple[str, int] | None:
        """See `Transport.address_of`."""
        with self._lock:
            endpoint = self._known.get((name, None))
        return (endpoint.hostname, endpoint.port) if endpoint is not None else None


def read(name: str, text: str, config: Path | None = None) -> Endpoint:
    """Endpoint from the text `ssh -G` prints: a lower-case keyword and its value on each line."""
    options: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        options.setdefault(keyword.lower(), []).append(value.strip())

    def first(keyword: str, default: str = "") -> str:
        value = options.get(keyword, [default])[0]
        return default if value.lower() == "none" else value

    hostname, user = first("hostname", name.rpartition("@")[2]), first("user")
    tokens = {"h": hostname, "n": name.rpartition("@")[2], "p": first("port", "22"), "r": user}
    alias = first("hostkeyalias")
    tokens |= {"%": "%", "d": str(_HOME), "i": str(os.getuid()), "k": alias or tokens["n"]}
    tokens["u"] = pwd.getpwuid(os.getuid()).pw_name

    def paths(values: list[str]) -> tuple[Path, ...]:
        return tuple(_path(_substitute(value, tokens)) for value in values if value and value != "none")

    timeout = first("connecttimeout")
    return Endpoint(
        name=name,
        hostname=hostname,
        port=int(tokens["p"]),
        user=user,
        identity_files=paths(options.get("identityfile", [])),
        certificate_files=paths(options.get("certificatefile", [])),
        identities_only=first("identitiesonly") == "yes",
        identity_agent=options.get("identityagent", [""])[0],
        user_known_hosts=paths(_list(first("userknownhostsfile"))),
        global_known_hosts=paths(_list(first("globalknownhostsfile"))),
        host_key_alias=alias,
        strict_host_keys={"true": "yes", "false": "no", "off": "no"}.get(
            first("stricthostkeychecking", "ask"), first("stricthostkeychecking", "ask")
        ),
        hash_known_hosts=first("hashknownhosts") == "yes",
        jumps=tuple(hop.strip() for hop in first("proxyjump").split(",") if hop.strip()),
        proxy_command=_substitute(first("proxycommand"), tokens),
        address_family=first("addressfamily", "any"),
        connect_timeout=float(timeout) if timeout.isdigit() and int(timeout) > 0 else None,
        config=config,
    )


def _complaint(text: str) -> tuple[str, str]:
    """(what ssh says about a configuration, the file and line it means): its first sentence that names a
    line, because the last one only counts them."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        found = _AT_LINE.match(line)
        if found:
            where = f"{tilde(Path(found['file']))} line {found['line']}"
            return f"{where}: {found['what']}", where
    return (lines[-1] if lines else ""), ""


def open_mode(file: Path) -> str:
    """The mode (``0644``) of a private key that ssh refuses, as others may read it; else an empty text."""
    try:
        status = file.stat()
    except OSError:
        return ""
    mine = status.st_uid == os.getuid()
    return f"{stat.S_IMODE(status.st_mode):04o}" if mine and status.st_mode & 0o077 else ""


def tilde(file: Path) -> str:
    """The path as a shell takes it, with ~ for the home directory."""
    return (
        f"~/{shlex.quote(str(file.relative_to(_HOME)))}"
        if file.is_relative_to(_HOME)
        else shlex.quote(str(file))
    )


def parse_hop(text: str) -> tuple[str, int | None]:
    """(``user@host``, port) of one ProxyJump hop; IPv6 addresses carry brackets when a port follows."""
    text = text.removeprefix("ssh://")
    user, at, host = text.rpartition("@")
    if host.startswith("["):
        address, _, port = host[1:].partition("]:")
        return user + at + address.rstrip("]"), int(port) if port.isdigit() else None
    address, _, port = host.rpartition(":")
    return (
        (user + at + address, int(port))
        if address and port.isdigit() and ":" not in address
        else (text, None)
    )


def _list(value: str) -> list[str]:
    """Several paths in one value. `ssh -G` does not quote, so a path with spaces can only be recognised."""
    return [value] if _path(value).exists() else value.split()


def _path(text: str) -> Path:
    return _HOME / text[2:] if text.startswith("~/") else Path(text)


def _substitute(text: str, tokens: dict[str, str]) -> str:
    return re.sub(r"%(.)", lambda match: tokens.get(match.group(1), match.group(0)), text)

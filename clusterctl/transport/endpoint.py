"""Where a host name leads, as OpenSSH itself tells it (`ssh -G`)."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import stat
from pathlib import Path

import msgspec

from clusterctl.transport.ssh_config import HOME


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How ssh would reach ``name``. ``connect_timeout`` is seconds, None where the config sets none."""

    name: str
    hostname: str
    port: int = 22
    user: str
    identity_files: tuple[Path, ...] = ()
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
    tokens |= {"%": "%", "d": str(HOME), "i": str(os.getuid()), "k": alias or tokens["n"]}
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
        f"~/{shlex.quote(str(file.relative_to(HOME)))}"
        if file.is_relative_to(HOME)
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
    return HOME / text[2:] if text.startswith("~/") else Path(text)


def _substitute(text: str, tokens: dict[str, str]) -> str:
    return re.sub(r"%(.)", lambda match: tokens.get(match.group(1), match.group(0)), text)

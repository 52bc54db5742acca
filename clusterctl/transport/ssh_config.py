"""Which hosts ssh's configuration treats alike, so that `ssh -G` need not be run for each of a thousand.

This reads which lines concern a host, never what they mean: values are ssh's own word about one host, and
stand for those others that the very same lines concern. Only HostName, Port and User may differ between them.
Whatever is not understood to the letter (Match, tokens, canonical names, quotes in names) is left to ssh.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import pwd
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

# ssh takes the home directory from the password database, not from $HOME.
HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)
_SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
_DEPTH = 16
_LINE = re.compile(r"(?P<keyword>[A-Za-z0-9]+)(?:[ \t]*=[ \t]*|[ \t]+)(?P<value>[^\s=].*)")
_PLAIN_NAME = re.compile(r"[a-z_](?:[a-z0-9_.-]*[a-z0-9])?")
_PLAIN_ADDRESS = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}")
_PLAIN_PORT = re.compile(r"[1-9][0-9]{0,3}|[1-5][0-9]{4}")
_PLAIN_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_OWN = ("hostname", "port", "user")
_READ = re.compile(
    "identityfile2?|certificatefile|identitiesonly|identityagent|userknownhostsfile|globalknownhostsfile|"
    "hostkeyalias|stricthostkeychecking|hashknownhosts|proxyjump|proxycommand|addressfamily|connecttimeout"
)
"""Keywords whose value an `Endpoint` has, as it stands."""


class Likeness(msgspec.Struct, frozen=True):
    """What a host shares with others, and what its own lines give: hostname, port, user."""

    shared: tuple[tuple[str, str], ...]
    own: dict[str, str | int]


class _Block(msgspec.Struct):
    """The lines after one Host line, or before the first. ``within`` are the Host lines whose files include
    this one: all must cover a host."""

    patterns: tuple[str, ...]
    within: tuple[tuple[str, ...], ...]
    lines: list[tuple[str, str]]


class NotUnderstood(Exception):
    """The configuration holds something that is left to ssh."""


class SshConfig:
    """The configuration in ``config``, or the user's and the system's own. Raises NotUnderstood."""

    def __init__(self, config: Path | None) -> None:
        self.files: list[str] = []
        """Every file that was read, in order."""
        self._blocks: list[_Block] = []
        for file, folder in (
            [(config, HOME / ".ssh")]
            if config
            else [(HOME / ".ssh/config", HOME / ".ssh"), (_SYSTEM_CONFIG, _SYSTEM_CONFIG.parent)]
        ):
            self._read(file, folder, (), _DEPTH)
        self._named: defaultdict[str, list[int]] = defaultdict(list)
        self._others: list[int] = []
        for number, block in enumerate(self._blocks):
            if any(set("*?!") & set(pattern) for pattern in block.patterns):
                self._others.append(number)
            else:
                for pattern in dict.fromkeys(block.patterns):
                    self._named[pattern].append(number)

    def likeness(self, name: str) -> Likeness | None:
        """None for a host that has to be asked for by itself."""
        if not _is_plain(name):
            return None
        first: dict[str, str] = {}
        shared: list[tuple[str, str]] = []
        for number in sorted({*self._named.get(name, ()), *self._others}):
            block = self._blocks[number]
            if not all(_covers(patterns, name) for patterns in (*block.within, block.patterns)):
                continue
            for keyword, value in block.lines:
                if keyword in _OWN:
                    first.setdefault(keyword, value)
                else:
                    shared.append((keyword, value))
        own: dict[str, str | int] = {"hostname": first.get("hostname", "%h").replace("%h", name)}
        if "port" in first:
            own["port"] = int(first["port"]) if _PLAIN_PORT.fullmatch(first["port"]) else 0
        if "user" in first:
            own["user"] = first["user"] if _PLAIN_USER.fullmatch(first["user"]) else ""
        hostname = str(own["hostname"])
        if not all(own.values()) or not _is_plain(hostname):
            return None
        if not all(_stays(keyword, value, (name, hostname)) for keyword, value in shared):
            return None
        # Where no line gives a port or user, ssh's own default stands, for all who share that.
        return Likeness((*shared, *((keyword, "") for keyword in own)), own)

    def _read(self, file: Path, folder: Path, within: tuple[tuple[str, ...], ...], depth: int) -> None:
        """``folder`` is where its relative Includes lie."""
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise NotUnderstood(str(error)) from error
        self.files.append(str(file))
        block = self._begin(("*",), within)
        for line in text.split("\n"):
            line = line.strip(" \t\r\f")
            if not line or line.startswith("#"):
                continue
            found = _LINE.fullmatch(line)
            if not found or not line.replace("\t", " ").isprintable():
                raise NotUnderstood(line)
            keyword, value = found["keyword"].lower(), found["value"].rstrip()
            if keyword == "host":
                block = self._begin(_words(value), within)
            elif keyword == "include":
                for pattern in _words(value):
                    self._include(pattern, folder, (*within, block.patterns), depth)
                # What follows comes after what was included.
                block = self._begin(block.patterns, within)
            elif keyword in ("match", "tag") or keyword.startswith("canonical"):
                raise NotUnderstood(line)
            else:
                block.lines.append((keyword, value))

    def _begin(self, patterns: tuple[str, ...], within: tuple[tuple[str, ...], ...]) -> _Block:
        self._blocks.append(_Block(patterns, within, []))
        return self._blocks[-1]

    def _include(self, pattern: str, folder: Path, within: tuple[tuple[str, ...], ...], depth: int) -> None:
        if set("%$[{\\") & set(pattern) or depth == 0 or (pattern[0] == "~" and pattern[:2] != "~/"):
            raise NotUnderstood(pattern)
        if pattern.startswith("~/"):
            pattern = str(HOME / pattern[2:])
        path = pattern if pattern.startswith("/") else str(folder / pattern)
        for found in sorted(glob.glob(path)):  # noqa: PTH207 - ssh's own words, absolute or not
            self._read(Path(found), folder, within, depth - 1)


def _words(value: str) -> tuple[str, ...]:
    if set("\"'\\#=,") & set(value):
        raise NotUnderstood(value)
    return tuple(value.split())


def _is_plain(name: str) -> bool:
    """A name or an address that ssh leaves as it is."""
    return bool(_PLAIN_NAME.fullmatch(name) or _PLAIN_ADDRESS.fullmatch(name))


def _stays(keyword: str, value: str, names: Iterable[str]) -> bool:
    """Whether a line means the same to every host: no token, and no jump by way of the host itself."""
    if not _READ.fullmatch(keyword):
        return True
    return "%" not in value and not (keyword == "proxyjump" and any(name in value for name in names))


def _covers(patterns: Sequence[str], name: str) -> bool:
    found = False
    for pattern in patterns:
        refused = pattern.startswith("!")
        if _matches(pattern.removeprefix("!"), name):
            if refused:
                return False
            found = True
    return found


def _matches(pattern: str, name: str) -> bool:
    # Brackets are literal to ssh, but a class to fnmatch.
    return pattern == name or fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))

"""known_hosts files, read once and shared: plain, hashed and pattern entries, @revoked, @cert-authority.

Entries of plain names are found by name, so that a thousand hosts do not cost a million comparisons. A hashed
name tells whom it covers to nobody but who hashes each of the names asked for, once.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import fnmatch
import hashlib
import hmac
import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

Verdict = Literal["known", "changed", "unknown", "revoked", "authority"]


class Entry(msgspec.Struct, frozen=True):
    """One line: who (patterns or one hash), key type, key blob, and the file and line it stands on."""

    patterns: tuple[str, ...]
    key_type: str
    blob: bytes
    marker: str = ""
    file: Path = Path()
    line: int = 0
    hashed: tuple[bytes, bytes] = (b"", b"")
    """Salt and digest of the one name that it covers."""

    def covers(self, name: str) -> bool:
        if self.hashed[0]:
            return hmac.compare_digest(hmac.digest(self.hashed[0], name.encode(), "sha1"), self.hashed[1])
        wanted = [pattern for pattern in self.patterns if not pattern.startswith("!")]
        refused = [pattern[1:] for pattern in self.patterns if pattern.startswith("!")]
        return any(_matches(p, name) for p in wanted) and not any(_matches(p, name) for p in refused)


def fingerprint(blob: bytes) -> str:
    """A key's fingerprint as OpenSSH shows it: ``SHA256:...``."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


class KnownHosts:
    """The entries of several files. Safe to share between threads."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._by_name: defaultdict[str, list[int]] = defaultdict(list)
        self._others: list[int] = []
        """Entries that are not found by name: patterns, hashes, and whatever has a marker."""
        self._covering: dict[str, list[int]] = {}
        """What was found before: a login asks twice."""
        for file in files:
            for entry in _read(file):
                self._enter(entry)

    def key_types(self, names: Sequence[str]) -> tuple[str, ...]:
        """Types of the keys on file, so that the server can be asked for one of them."""
        return tuple(dict.fromkeys(entry.key_type for entry in self._plain(names)))

    def judge(self, names: Sequence[str], key_type: str, blob: bytes) -> tuple[Verdict, Entry | None]:
        """What the files say about a key a server showed, and the entry that says so.

        Only the first of ``names`` can make a key ``changed``; the others can only vouch for it.
        """
        covering = self._of(names)
        for entry in covering:
            if entry.marker == "@revoked" and entry.blob == blob:
                return "revoked", entry
        mine = self._plain(names)
        for entry in mine:
            if entry.blob == blob:
                return "known", entry
        for entry in self._plain(names[:1]):
            if entry.key_type == key_type:
                return "changed", entry
        for entry in covering:
            if entry.marker == "@cert-authority":
                return "authority", entry
        return "unknown", mine[0] if mine else None

    def at(self, file: str, line: int) -> Entry | None:
        """The entry on a line of a file."""
        return next((e for e in self._entries if str(e.file) == file and e.line == line), None)

    def add(self, file: Path, name: str, key_type: str, blob: bytes, *, hashed: bool) -> None:
        """Append a key to ``file`` (created 0600) and to this table. Raises OSError."""
        pattern = _hash(name) if hashed else name
        with self._lock:
            if any(e.blob == blob and e.covers(name) for e in self._entries if not e.marker):
                return
            _append(file, f"{pattern} {key_type} {base64.b64encode(blob).decode()}\n".encode())
            self._enter(Entry((pattern,), key_type, blob, file=file, hashed=_unhashed(pattern)))
            self._covering.pop(name, None)

    def _enter(self, entry: Entry) -> None:
        number = len(self._entries)
        self._entries.append(entry)
        if entry.marker or any(set("*?!|") & set(pattern) for pattern in entry.patterns):
            self._others.append(number)
        else:
            for pattern in dict.fromkeys(entry.patterns):
                self._by_name[pattern].append(number)

    def _of(self, names: Sequence[str]) -> list[Entry]:
        """Entries that cover one of ``names``, in the order of the files."""
        found: dict[int, Entry] = {}
        with self._lock:
            for name in names:
                if name not in self._covering:
                    others = [number for number in self._others if self._entries[number].covers(name)]
                    self._covering[name] = sorted({*self._by_name.get(name, ()), *others})
                found.update((number, self._entries[number]) for number in self._covering[name])
        return [found[number] for number in sorted(found)]

    def _plain(self, names: Sequence[str]) -> list[Entry]:
        return [entry for entry in self._of(names) if not entry.marker]


def _read(file: Path) -> list[Entry]:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []  # ssh, too, takes a file that is not there for an empty one
    entries = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) < 3 or fields[0].startswith("#"):
            continue
        try:
            blob = base64.b64decode(fields[2], validate=True)
        except binascii.Error:
            continue
        patterns = tuple(fields[0].split(",")) if fields[0].startswith("|") else _lowered(fields[0])
        entries.append(Entry(patterns, fields[1], blob, marker, file, number, _unhashed(patterns[0])))
    return entries


def _lowered(field: str) -> tuple[str, ...]:
    return tuple(pattern.lower() for pattern in field.split(","))


def _matches(pattern: str, name: str) -> bool:
    if "*" not in pattern and "?" not in pattern:
        return pattern == name
    # Brackets are literal in known_hosts ("[gpu*]:2222"), but a class to fnmatch.
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _hash(name: str) -> str:
    salt = os.urandom(hashlib.sha1().digest_size)
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def _unhashed(pattern: str) -> tuple[bytes, bytes]:
    """(salt, digest) of a hashed name; empty for any other pattern."""
    if not pattern.startswith("|1|"):
        return b"", b""
    try:
        salt, digest = pattern[3:].split("|")
        return base64.b64decode(salt), base64.b64decode(digest)
    except ValueError:
        return b"", b""


def _append(file: Path, line: bytes) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "r+b", buffering=0) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        size = os.fstat(stream.fileno()).st_size
        unfinished = size > 0 and os.pread(stream.fileno(), 1, size - 1) != b"\n"
        stream.write(b"\n" + line if unfinished else line)

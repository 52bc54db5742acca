"""known_hosts files, read once and shared: plain, hashed and pattern entries, @revoked, @cert-authority.

Keys stay text until they are compared, which makes a file of a thousand lines cost a few milliseconds.
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

    def covers(self, name: str) -> bool:
        if self.patterns[0].startswith("|1|"):
            return _hash_matches(self.patterns[0], name)
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
        self._entries = [entry for file in files for entry in _read(file)]

    def key_types(self, names: Sequence[str]) -> tuple[str, ...]:
        """Types of the keys on file, so that the server can be asked for one of them."""
        return tuple(dict.fromkeys(entry.key_type for entry in self._plain(names)))

    def judge(self, names: Sequence[str], key_type: str, blob: bytes) -> tuple[Verdict, Entry | None]:
        """What the files say about a key a server showed, and the entry that says so.

        Only the first of ``names`` can make a key ``changed``; the others can only vouch for it.
        """
        with self._lock:
            entries = tuple(self._entries)
        for entry in entries:
            if entry.marker == "@revoked" and entry.blob == blob and any(map(entry.covers, names)):
                return "revoked", entry
        mine = self._plain(names)
        for entry in mine:
            if entry.blob == blob:
                return "known", entry
        for entry in mine:
            if entry.key_type == key_type and entry.covers(names[0]):
                return "changed", entry
        for entry in entries:
            if entry.marker == "@cert-authority" and any(map(entry.covers, names)):
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
            self._entries.append(Entry((pattern,), key_type, blob, file=file))

    def _plain(self, names: Sequence[str]) -> list[Entry]:
        with self._lock:
            entries = tuple(self._entries)
        return [entry for entry in entries if not entry.marker and any(map(entry.covers, names))]


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
        entries.append(Entry(patterns, fields[1], blob, marker, file, number))
    return entries


def _lowered(field: str) -> tuple[str, ...]:
    return tuple(pattern.lower() for pattern in field.split(","))


def _matches(pattern: str, name: str) -> bool:
    if "*" not in pattern and "?" not in pattern:
        return pattern == name
    # Brackets are literal in known_hosts ("[gpu*]:2222"), but a class to fnmatch.
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _hash(name: str, salt: bytes | None = None) -> str:
    salt = salt or os.urandom(hashlib.sha1().digest_size)
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def _hash_matches(hashed: str, name: str) -> bool:
    try:
        _, _, salt, _ = hashed.split("|")
        return hmac.compare_digest(_hash(name, base64.b64decode(salt)), hashed)
    except ValueError:
        return False


def _append(file: Path, line: bytes) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "r+b", buffering=0) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        size = os.fstat(stream.fileno()).st_size
        unfinished = size > 0 and os.pread(stream.fileno(), 1, size - 1) != b"\n"
        stream.write(b"\n" + line if unfinished else line)

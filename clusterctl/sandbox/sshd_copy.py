"""A private copy of OpenSSH's server, for machines where it is not installed.

Unpacked, never installed: installing the package would start a listening service on the user's machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from clusterctl.errors import ClusterctlError
from clusterctl.settings import SANDBOX

_PACKAGE = "openssh-server"
_HINT = (
    "install OpenSSH's server: `apt-get install openssh-server` (Debian, Ubuntu), "
    "`dnf install openssh-server` (Fedora, RHEL); only its binary is used, the service may stay off"
)


def ensure_copy(cache: Path) -> Path:
    """The root of the unpacked copy below ``cache``; made on the first call. Raises ClusterctlError."""
    root = cache / "openssh"
    if (root / "usr/sbin/sshd").exists():
        return root
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise ClusterctlError("no sshd on this machine, and no apt-get to fetch a private copy", hint=_HINT)
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as scratch:
        work = Path(scratch)
        _fetch(work)
        unpacked = work / "root"
        for package in sorted(work.glob("*.deb")):
            _run(["dpkg", "-x", package.name, "root"], work)
        if not (unpacked / "usr/sbin/sshd").exists():
            raise ClusterctlError("the package openssh-server held no sshd", hint=_HINT)
        shutil.rmtree(root, ignore_errors=True)
        unpacked.rename(root)
    return root


def _fetch(work: Path) -> None:
    try:
        _run(["apt-get", "download", _PACKAGE, *_missing_libraries(work, ())], work)
    except ClusterctlError:
        # The machine's package lists are empty or out of date; a private set needs no rights.
        lists = work / "lists/partial"
        lists.mkdir(parents=True)
        private = ("-o", f"Dir::State::Lists={lists.parent}", "-o", f"Dir::Cache={work}")
        (work / "archives/partial").mkdir(parents=True)
        _run(["apt-get", *private, "update"], work)
        _run(["apt-get", *private, "download", _PACKAGE, *_missing_libraries(work, private)], work)


def _missing_libraries(work: Path, options: Sequence[str]) -> list[str]:
    """The libraries the package depends on that are not installed here."""
    listed = _run(["apt-cache", *options, "depends", "--important", _PACKAGE], work)
    wanted = sorted(
        {
            line.split("Depends:")[1].strip()
            for line in listed.splitlines()
            if "Depends: lib" in line and "PreDepends" not in line
        }
    )
    known = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n", *wanted],
        capture_output=True, text=True, check=False, timeout=SANDBOX.fetch_timeout,
    )  # fmt: skip
    installed = {line.split()[1] for line in known.stdout.splitlines() if line.startswith("ii")}
    return [name for name in wanted if name not in installed]


def _run(argv: Sequence[str], work: Path) -> str:
    try:
        done = subprocess.run(
            argv, cwd=work, capture_output=True, text=True, check=False, timeout=SANDBOX.fetch_timeout,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ClusterctlError(f"`{' '.join(argv)}` took too long", hint=_HINT) from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise ClusterctlError(
            f"no sshd here, and fetching a private copy failed: {said[-1] if said else argv[0]}", hint=_HINT
        )
    return done.stdout

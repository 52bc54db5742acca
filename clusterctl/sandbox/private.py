"""A sandbox that no other command sees, for as long as a block of a program lasts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from clusterctl.sandbox.lifecycle import Sandbox, take_down
from clusterctl.sandbox.spec import HostSpec
from clusterctl.sandbox.state import sandboxes


@contextmanager
def private_sandbox(hosts: Sequence[HostSpec]) -> Iterator[Sandbox]:
    """Its home is its own, and is removed with it. Raises as `Sandbox.create`."""
    with tempfile.TemporaryDirectory(prefix="cctl-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        copied = sandboxes(None) / ".cache" / "openssh"
        if copied.is_dir():  # a private copy of sshd, fetched once; its hosts may not see where it lies
            shutil.copytree(copied, sandboxes(home) / ".cache" / copied.name, symlinks=True)
        try:
            yield Sandbox.create("private", hosts, home)
        finally:
            take_down("private", home)

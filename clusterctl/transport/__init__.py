"""Moves bytes to hosts and back under a deadline. `connect` makes a transport."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.transport.protocol import Channel, Failure, Transport

__all__ = ["Channel", "Failure", "Kind", "Transport", "connect"]

Kind = Literal["fabric", "openssh"]


def connect(kind: Kind = "fabric", ssh_config: Path | None = None) -> Transport:
    """A transport; nothing is contacted yet. ``ssh_config`` None means what `ssh` itself would read.

    Raises ClusterctlError when this machine has no `ssh`: both kinds need it to read the configuration.
    """
    if shutil.which("ssh") is None:
        raise ClusterctlError(
            "this machine has no `ssh` command",
            hint="install the OpenSSH client (apt install openssh-client)",
        )
    if ssh_config is not None:
        _must_be_readable(ssh_config)
    # Imported here: paramiko costs a tenth of a second, which `--help` must not pay.
    if kind == "openssh":
        from clusterctl.transport.openssh import OpensshTransport

        return OpensshTransport(ssh_config)
    from clusterctl.transport import lean

    lean.load()
    from clusterctl.transport.fabric import FabricTransport

    return FabricTransport(ssh_config)


def _must_be_readable(ssh_config: Path) -> None:
    try:
        if ssh_config.is_file():
            with ssh_config.open("rb"):
                return
        problem = "is not a file"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    raise UsageError(
        f"the ssh config {ssh_config} {problem}", hint="correct --ssh-config, or $CLUSTERCTL_SSH_CONFIG"
    )

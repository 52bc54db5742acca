"""The OpenSSH server of the hosts: the installed binary or a private copy, and its configuration."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from clusterctl.sandbox import sshd_copy


class SshServer(msgspec.Struct, frozen=True):
    """A binary that can be started, its libraries' directory (``""``: the system's), its helper programs."""

    binary: str
    library_path: str = ""
    options: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """What the binary needs to start; sessions do not inherit it."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path} | ({"LD_LIBRARY_PATH": self.library_path} if self.library_path else {})


def find_sshd(cache: Path) -> SshServer:
    """The system's sshd binary (never its service), else a private copy below ``cache``.

    Raises ClusterctlError, saying what to install, when there is neither.
    """
    for place in (shutil.which("sshd"), "/usr/sbin/sshd", "/usr/local/sbin/sshd"):
        if place and Path(place).is_file():
            return SshServer(place, options=_options(Path(place), None))
    root = sshd_copy.ensure_copy(cache)
    binary = root / "usr/sbin/sshd"
    libraries = sorted({str(file.parent) for file in root.rglob("*.so*")})
    return SshServer(str(binary), ":".join(libraries), _options(binary, root))


def _options(binary: Path, root: Path | None) -> tuple[str, ...]:
    """Lines that only some versions know; an unknown one would be fatal, so the binary is searched."""
    known = binary.read_bytes()
    lines = []
    if b"persourcepenalties" in known:
        # Refusals are part of what gets tested, and they all come from one address.
        lines.append("PerSourcePenalties no")
    if root is not None:
        for keyword, program in (("SshdSessionPath", "sshd-session"), ("SshdAuthPath", "sshd-auth")):
            place = root / "usr/lib/openssh" / program
            if keyword.lower().encode() in known and place.exists():
                lines.append(f"{keyword} {place}")
    return tuple(lines)


def server_config(
    server: SshServer, *, port: int, address: str, host_key: Path, authorized_keys: Path, pid_file: str,
    session: Mapping[str, str],
) -> str:  # fmt: skip
    """The text of an sshd_config. ``session`` is the environment each login starts with."""
    # Only the first SetEnv line counts, so all of it has to be on one.
    variables = " ".join(f'"{name}={value}"' for name, value in sorted(session.items()))
    lines = [
        f"Port {port}",
        f"ListenAddress {address}",
        f"HostKey {host_key}",
        f"PidFile {pid_file}",
        f'AuthorizedKeysFile "{authorized_keys}" .ssh/authorized_keys',
        f"SetEnv {variables}",
        "PermitRootLogin yes",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",
        "UseDNS no",
        "StrictModes no",
        "PrintMotd no",
        "PrintLastLog no",
        "X11Forwarding no",
        "MaxStartups 200:30:400",
        "MaxSessions 100",
        "Subsystem sftp internal-sftp",
        *server.options,
    ]
    return "\n".join(lines) + "\n"

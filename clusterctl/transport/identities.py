"""The keys a login offers, in the order ssh offers them."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
from paramiko.auth_strategy import AuthSource, AuthStrategy, InMemoryPrivateKey, NoneAuth
from paramiko.pkey import UnknownKeyType

from clusterctl.settings import SSH
from clusterctl.transport import failures
from clusterctl.transport.endpoint import Endpoint, open_mode, tilde


class Identities(AuthStrategy):
    """Offers keys in OpenSSH's order: agent keys that the config names, other agent keys, key files."""

    def __init__(
        self,
        endpoint: Endpoint,
        load: Callable[[Path], paramiko.PKey | failures.Unusable | None],
        deadline: float,
    ):
        super().__init__(ssh_config=paramiko.SSHConfig())
        self.tried: list[str] = []
        self.unusable: list[failures.Unusable] = []
        self._endpoint = endpoint
        self._load = load
        self._deadline = deadline

    def get_sources(self) -> Iterator[AuthSource]:
        user = self._endpoint.user
        for label, key in self._keys():
            if time.monotonic() >= self._deadline:
                return
            self.tried.append(label)
            yield InMemoryPrivateKey(user, key)
        if not self.tried:
            # Some hosts (Tailscale SSH) let in whom the network vouches for.
            yield NoneAuth(user)

    def _keys(self) -> Iterator[tuple[str, paramiko.PKey]]:
        offered: set[bytes] = set()
        files = self._endpoint.identity_files
        named = {blob: file for file in files if (blob := _public_blob(file))}
        with _agent(self._endpoint.identity_agent) as agent_keys:
            for key in sorted(agent_keys, key=lambda key: key.asbytes() not in named):
                if key.asbytes() in named or not self._endpoint.identities_only:
                    offered.add(key.asbytes())
                    file = named.get(key.asbytes())
                    yield f"{file or key.comment or key.get_name()} (agent)", key
            for file in files:
                loaded = self._load(file)
                if isinstance(loaded, failures.Unusable):
                    if _public_blob(file) not in offered:
                        self.unusable.append(loaded)
                elif loaded is not None and loaded.asbytes() not in offered:
                    offered.add(loaded.asbytes())
                    yield str(file), loaded


class _AgentAt(paramiko.agent.AgentSSH):
    """An agent at a given socket; paramiko's own looks only at SSH_AUTH_SOCK, not at IdentityAgent."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(SSH.auth_timeout)
        try:
            self._socket.connect(path)
            self._connect(self._socket)  # type: ignore[attr-defined]
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def _agent(identity_agent: str) -> Iterator[tuple[paramiko.agent.AgentKey, ...]]:
    """Keys of the agent. One connection per login: agent connections cannot be shared between threads."""
    path = os.environ.get("SSH_AUTH_SOCK", "")
    if identity_agent.startswith("$"):
        path = os.environ.get(identity_agent.strip("${}"), "")
    elif identity_agent not in ("", "SSH_AUTH_SOCK"):
        path = str(Path(identity_agent).expanduser())
    if path in ("", "none"):
        yield ()
        return
    try:
        agent = _AgentAt(path)
    except (OSError, paramiko.SSHException):
        yield ()  # a socket left behind by an agent that is gone; ssh, too, goes on without it
        return
    try:
        yield agent.get_keys()
    finally:
        agent.close()


def _public_blob(file: Path) -> bytes:
    """The public half that lies beside a private key; empty where there is none."""
    try:
        return base64.b64decode(file.with_name(f"{file.name}.pub").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return b""


def read_key(file: Path) -> paramiko.PKey | failures.Unusable:
    """The key, or why it cannot be used."""
    mode = open_mode(file)
    if mode:
        return failures.open_key(file, mode)
    try:
        return paramiko.PKey.from_path(file)
    except TypeError:
        cure = f'load the key into an agent: eval "$(ssh-agent)" && ssh-add {tilde(file)}'
        return failures.Unusable(str(file), "needs its passphrase and no agent holds it", cure)
    except OSError as error:
        why = f"cannot be read ({error.strerror or error})"
        return failures.Unusable(str(file), why, f"ls -l {tilde(file)}")
    except (paramiko.SSHException, UnknownKeyType, ValueError, NotImplementedError):
        why = "is damaged, or of a kind this transport cannot use (a security key?)"
        cure = "use `--transport openssh`, or a key of a common type (ssh-keygen -t ed25519)"
        return failures.Unusable(str(file), why, cure)

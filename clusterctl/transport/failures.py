"""The sentences and exact cures for everything that can go wrong on the way to a host."""

from __future__ import annotations

import errno
import shlex
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

import msgspec

from clusterctl.transport.endpoint import Endpoint, tilde
from clusterctl.transport.known_hosts import Entry, Verdict
from clusterctl.transport.protocol import Failure, Stage

CA_CURE = "use `--transport openssh`: the default transport cannot check host certificates"


def failure(
    endpoint: Endpoint, stage: Stage, message: str, hint: str = "", open_keys: tuple[str, ...] = ()
) -> Failure:
    return Failure(host=endpoint.name, stage=stage, message=message, hint=hint, open_keys=open_keys)


def ssh_command(endpoint: Endpoint, *words: str) -> str:
    """The `ssh` line a person would type to try this host by hand."""
    config = ["-F", str(endpoint.config)] if endpoint.config else []
    return shlex.join(["ssh", *config, endpoint.name, *words])


def _config(endpoint: Endpoint) -> str:
    """The file in which a person sets how this host is reached."""
    return tilde(endpoint.config) if endpoint.config else "~/.ssh/config"


def unresolved(endpoint: Endpoint) -> Failure:
    return failure(
        endpoint,
        "resolve",
        f"no address is known for the name '{endpoint.hostname}'",
        f"correct the name in the hostfile, or add `Host {endpoint.name}` with its HostName to "
        f"{_config(endpoint)}",
    )


def is_ours(error: Exception) -> TypeGuard[OSError]:
    """Whether it is this machine that lacks something, and not the host."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS)


def no_thread(host: str) -> Failure:
    return Failure(
        host=host,
        stage="connect",
        message="this machine allows no further thread",
        hint="ulimit -u shows the limit; ask fewer hosts at a time (--nodes), or end something else",
    )


def no_descriptor(host: str, error: OSError) -> Failure:
    return Failure(
        host=host,
        stage="connect",
        message=f"this machine has no means left for a connection: {error.strerror}",
        hint="ulimit -n shows how many files may be open; ask fewer hosts at a time (--nodes)",
    )


def unconnected(endpoint: Endpoint, error: OSError, waited: float) -> Failure:
    """TCP did not come about. ``waited`` is seconds."""
    if is_ours(error):
        return no_descriptor(endpoint.name, error)
    if isinstance(error, (TimeoutError, socket.timeout)) or error.errno == errno.ETIMEDOUT:
        return failure(
            endpoint,
            "connect",
            f"no answer from {endpoint.address} within {waited:.0f} s",
            "the host is down, or a firewall drops the packets; try: ping -c 3 " + endpoint.hostname,
        )
    if error.errno == errno.ECONNREFUSED:
        return failure(
            endpoint,
            "connect",
            f"{endpoint.address} refuses the connection: the machine is up, but no sshd listens there",
            f"start sshd on it, or set the right Port under `Host {endpoint.name}` in {_config(endpoint)}",
        )
    if error.errno == errno.EHOSTUNREACH:  # a firewall's word for a port, or nobody bears the address
        return failure(
            endpoint,
            "connect",
            f"cannot reach {endpoint.address}: {error.strerror}; a firewall rejects port {endpoint.port}, or "
            "no machine has this address",
            f"ping -c 3 {endpoint.hostname}: if it answers, open port {endpoint.port} in the firewall of the "
            "host, else check the address",
        )
    return failure(
        endpoint,
        "connect",
        f"cannot reach {endpoint.address}: {error.strerror or error}",
        "check the address, and that this machine has a route to it: ip route get " + endpoint.hostname,
    )


class Dropped(Failure, frozen=True, kw_only=True):
    """Whoever took the connection ended it before a greeting: another try, a moment later, may cure it."""


_REFUSALS = ("Exceeded MaxStartups", "Not allowed at this time")
"""What sshd says instead of its greeting: up to 9.7 of MaxStartups, then of penalties, too."""


def dropped_before_banner(endpoint: Endpoint, greeting: Sequence[str] = ()) -> Failure:
    """``greeting``: what the server did say, line by line."""
    if endpoint.proxy_command:
        return Dropped(
            host=endpoint.name,
            stage="connect",
            message="the ProxyCommand ended before sshd answered",
            hint=f"run it by hand: {endpoint.proxy_command}",
        )
    said = next((line.strip() for line in greeting if line.strip().startswith(_REFUSALS)), "")
    first = next((line.strip() for line in greeting if line.strip()), "")
    if first and not said and not any(line.startswith("SSH-") for line in greeting):
        return not_ssh(endpoint, first)
    message = f"sshd on {endpoint.address} closed the connection before its greeting"
    if said.startswith(_REFUSALS[1]):
        message = (
            f"sshd on {endpoint.address} refuses connections from this address for now (“{said}”): a penalty "
            "for earlier ones that did not log in, or too many at once"
        )
        hint = (
            "penalties last up to ten minutes (PerSourcePenalties in sshd_config, PerSourcePenaltyExemptList "
            f"spares an address); sshd's log on {endpoint.name} says which: journalctl -u ssh"
        )
    elif said:
        message += f" (“{said}”)"
        hint = f"raise MaxStartups in sshd_config on {endpoint.name}, or wait until others have logged in"
    else:
        hint = (
            "too many logins at once for MaxStartups, a penalty for this address, hosts.deny, or a port that "
            "belongs to something else; wait a minute, then look into sshd's log on the host"
        )
    return Dropped(host=endpoint.name, stage="dropped", message=message, hint=hint)


def silent(endpoint: Endpoint, waited: float) -> Failure:
    return failure(
        endpoint,
        "banner",
        f"{endpoint.address} accepts connections but sent no SSH greeting within {waited:.0f} s",
        "sshd there is frozen or overloaded, or the port belongs to something else; try: "
        + ssh_command(endpoint, "true"),
    )


def not_ssh(endpoint: Endpoint, said: str) -> Failure:
    """``said`` is the first line of what came in place of a greeting."""
    return failure(
        endpoint,
        "banner",
        f"what listens on {endpoint.address} is no sshd: it says “{said[:60]}”",
        f"set the Port of sshd under `Host {endpoint.name}` in {_config(endpoint)}, or stop on the host what "
        f"has its port: sudo ss -ltnp sport = :{endpoint.port}",
    )


def no_ssh_server(endpoint: Endpoint, detail: str) -> Failure:
    return failure(
        endpoint,
        "banner",
        f"{endpoint.address} does not speak SSH as expected: {detail}",
        f"check Port under `Host {endpoint.name}`; if `{ssh_command(endpoint, 'true')}` works, "
        "use `--transport openssh`",
    )


def late(endpoint: Endpoint, phase: str) -> Failure:
    return failure(
        endpoint,
        "deadline",
        f"{endpoint.address}: the time was over during {phase}",
        f"see how long `{ssh_command(endpoint, 'true')}` takes: start-up files, a name server "
        "or a full process table may hold it up",
    )


def bad_host_key(
    endpoint: Endpoint, verdict: Verdict, entry: Entry | None, key_type: str, fingerprint: str
) -> Failure:
    """``fingerprint`` is OpenSSH's form, ``SHA256:...``."""
    name = endpoint.key_names[0]
    if verdict == "revoked" and entry:
        return failure(
            endpoint,
            "hostkey",
            f"{endpoint.address} shows a host key that {entry.file} line {entry.line} revokes",
            "do not connect; ask who administers the host",
        )
    if verdict == "changed" and entry:
        remove = shlex.join(["ssh-keygen", "-R", name, "-f", str(entry.file)])
        return failure(
            endpoint,
            "hostkey",
            f"the host key of {endpoint.address} has changed: it now shows {key_type} {fingerprint}, "
            f"{entry.file} line {entry.line} has another",
            f"if the machine was reinstalled: {remove}; then: {learn(endpoint, key_type)}. Otherwise "
            "somebody may be listening in",
        )
    if verdict == "authority":
        return failure(
            endpoint,
            "hostkey",
            f"{endpoint.address} is trusted by a certificate authority in known_hosts, not by its own key",
            CA_CURE,
        )
    told = f"the host key of {endpoint.address} is unknown: it shows {key_type} {fingerprint}"
    if entry:
        told += f", and {entry.file} has only an {entry.key_type} key for it"
    if endpoint.strict_host_keys == "no":
        told += " (StrictHostKeyChecking no is not followed here: host keys are always checked)"
    return failure(endpoint, "hostkey", told, f"compare the fingerprint, then: {learn(endpoint, key_type)}")


def learn(endpoint: Endpoint, key_type: str) -> str:
    """The command that files the host's key, for a person who has compared the fingerprint."""
    file = endpoint.user_known_hosts[0] if endpoint.user_known_hosts else Path("~/.ssh/known_hosts")
    if endpoint.jumps or endpoint.proxy_command or endpoint.host_key_alias or str(file) == "/dev/null":
        return ssh_command(endpoint, "-o", "StrictHostKeyChecking=ask", "true").replace(
            f" {endpoint.name} -o StrictHostKeyChecking=ask", f" -o StrictHostKeyChecking=ask {endpoint.name}"
        )
    short = {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}.get(key_type, "ecdsa")
    port = [] if endpoint.port == 22 else ["-p", str(endpoint.port)]
    return shlex.join(["ssh-keyscan", "-t", short, *port, endpoint.hostname]) + f" >> {tilde(file)}"


class Unusable(msgspec.Struct, frozen=True):
    """A key that was not offered: why, as the rest of a sentence that begins with its name, and the cure."""

    key: str
    why: str
    cure: str
    is_open: bool = False
    """Others may read it."""


def open_key(file: Path, mode: str) -> Unusable:
    """A private key that others may read."""
    why = f"has mode {mode}, which ssh refuses"
    return Unusable(str(file), why, f"chmod 600 {tilde(file)}", is_open=True)


def refused_login(endpoint: Endpoint, tried: Sequence[str], unusable: Sequence[Unusable] = ()) -> Failure:
    """``tried`` names the keys offered, ``unusable`` those that could not be."""
    offered = ", ".join(tried) if tried else "no key (none was found)"
    message = f"{endpoint.address} does not let {endpoint.user} in; offered: {offered}"
    if unusable:
        message += f" ({'; '.join(f'{each.key} {each.why}' for each in unusable)})"
    cures = "; ".join(dict.fromkeys(each.cure for each in unusable))
    open_keys = tuple(dict.fromkeys(each.key for each in unusable if each.is_open))
    if not tried and unusable:
        return failure(endpoint, "auth", message, cures, open_keys)
    port = [] if endpoint.port == 22 else ["-p", str(endpoint.port)]
    config = ["-F", str(endpoint.config)] if endpoint.config else []
    key = next((["-i", name] for name in tried if name.startswith("/")), [])
    copy = shlex.join(["ssh-copy-id", *key, *config, *port, f"{endpoint.user}@{endpoint.hostname}"])
    hint = f"{cures}; or {copy}" if cures else copy
    hint += f"; or set User and IdentityFile under `Host {endpoint.name}` in {_config(endpoint)}"
    return failure(
        endpoint,
        "auth",
        message,
        hint if tried or endpoint.identity_files else f"make a key with ssh-keygen, then: {hint}",
        open_keys,
    )


def second_factor(endpoint: Endpoint) -> Failure:
    return failure(
        endpoint,
        "auth",
        f"{endpoint.address} takes the key of {endpoint.user} and then asks for a second factor",
        f"let this login in by key alone: sshd_config on {endpoint.name}, AuthenticationMethods",
    )


def through(gateway: str, broken: Failure, host: str) -> Failure:
    """The same failure, told of a host behind the gateway that broke."""
    return Failure(
        host=host,
        stage=broken.stage,
        message=f"through the gateway {gateway}: {broken.message}",
        hint=broken.hint,
        open_keys=broken.open_keys,
    )


def unfinished_handshake(
    endpoint: Endpoint, error: Exception, seconds: float, greeting: Sequence[str] = ()
) -> Failure:
    """A connection that ended between TCP and authentication; ``greeting`` is what the server had said."""
    cause = error.__context__ or error
    if "protocol banner" in str(error):
        if isinstance(cause, TimeoutError) and not greeting:
            return silent(endpoint, seconds)
        return dropped_before_banner(endpoint, greeting)
    if isinstance(error, (EOFError, ConnectionError)):
        return dropped_before_banner(endpoint, greeting)
    return no_ssh_server(endpoint, str(error) or type(error).__name__)

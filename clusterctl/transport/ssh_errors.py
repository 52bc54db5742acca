"""What `ssh` wrote to stderr before it gave up -> the same Failure the other transport would report."""

from __future__ import annotations

import errno
import re

from clusterctl.transport import failures
from clusterctl.transport.endpoint import Endpoint, open_mode
from clusterctl.transport.known_hosts import KnownHosts
from clusterctl.transport.protocol import Failure

_CONNECT = {
    "Connection refused": errno.ECONNREFUSED,
    "Connection timed out": errno.ETIMEDOUT,
    "Operation timed out": errno.ETIMEDOUT,
    "No route to host": errno.EHOSTUNREACH,
    "Network is unreachable": errno.ENETUNREACH,
}


def explain(endpoint: Endpoint, complaint: str, seconds: float) -> Failure:
    """Read only ssh's own sentences. ``seconds`` is how long ssh tried."""
    if "Could not resolve hostname" in complaint:
        return failures.unresolved(endpoint)
    for text, number in _CONNECT.items():
        if f": {text}" in complaint and "kex_exchange" not in complaint:
            return failures.unconnected(endpoint, OSError(number, text), seconds)
    if "timed out during banner exchange" in complaint:
        return failures.silent(endpoint, seconds)
    if "Host key verification failed" in complaint:
        return _host_key(endpoint, complaint)
    if "Permission denied" in complaint or "Too many authentication failures" in complaint:
        files = [file for file in endpoint.identity_files if file.exists()]
        unusable = [failures.open_key(file, mode) for file in files if (mode := open_mode(file))]
        return failures.refused_login(endpoint, [str(f) for f in files if not open_mode(f)], unusable)
    if endpoint.jumps and "kex_exchange_identification" in complaint:
        said = complaint.strip().splitlines()[0].strip()
        return failures.failure(
            endpoint,
            "connect",
            f"the way through the gateway {endpoint.jumps[-1]} failed: {said}",
            f"try the gateway alone: ssh {endpoint.jumps[-1]} true",
        )
    if "kex_exchange_identification" in complaint or "Connection closed by" in complaint:
        return failures.dropped_before_banner(endpoint)
    lines = [line for line in complaint.strip().splitlines() if line.strip()]
    return failures.failure(
        endpoint,
        "connect",
        f"ssh gave up on {endpoint.address}: {lines[-1].strip() if lines else 'it said nothing'}",
        f"try it by hand: {failures.ssh_command(endpoint, 'true')}",
    )


def _host_key(endpoint: Endpoint, complaint: str) -> Failure:
    shown = re.search(r"fingerprint for the (\S+) key sent by the remote host is\s+(\S+?)\.?\s", complaint)
    key_type, fingerprint = (shown.group(1), shown.group(2)) if shown else ("a", "key")
    offending = re.search(r"Offending \S+ key in (.+):(\d+)", complaint)
    if offending:
        files = endpoint.user_known_hosts + endpoint.global_known_hosts
        entry = KnownHosts(files).at(offending.group(1), int(offending.group(2)))
        if entry is not None:
            short = {"ED25519": "ssh-ed25519", "RSA": "ssh-rsa"}.get(key_type, key_type)
            return failures.bad_host_key(endpoint, "changed", entry, short, fingerprint)
    return failures.failure(
        endpoint,
        "hostkey",
        f"the host key of {endpoint.address} is unknown",
        f"compare the fingerprint, then: {failures.learn(endpoint, 'ssh-ed25519')}",
    )

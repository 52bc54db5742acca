"""The files of a sandbox: what clients read (hostfile, ssh_config, known_hosts) and what its hosts see."""

from __future__ import annotations

import grp
import os
import pwd
import secrets
import shlex
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from clusterctl.sandbox.host_init import SCRATCH
from clusterctl.sandbox.keys import make_key
from clusterctl.sandbox.sshd import SshServer, server_config
from clusterctl.sandbox.state import HostState, Places, SandboxState

_PRIVSEP_UID = 64999
HELPER = str(Path(__file__).with_name("helper.py"))


def helper(program: str) -> list[str]:
    """The command that starts one of the sandbox's own programs."""
    return [sys.executable, "-I", "-S", HELPER, program]


def write_client_files(places: Places, state: SandboxState) -> None:
    """Keys for everybody, and what ssh, pdsh, fabric and clusterctl need to reach the hosts."""
    public = make_key(places.identity, f"clusterctl sandbox {state.name}")
    places.authorized_keys.write_text(public + "\n", encoding="ascii")
    known = []
    for host in state.hosts:
        directory = places.host(host.name)
        directory.mkdir(mode=0o700, parents=True)
        line = make_key(directory / "host_key", host.name)
        key = " ".join(line.split()[:2])
        ways = (host.name, host.address)
        names = ways if host.port == 22 else tuple(f"[{way}]:{host.port}" for way in ways)
        known.append(f"{','.join(names)} {key}\n")
    places.known_hosts.write_text("".join(known), encoding="ascii")
    width = max(len(host.name) for host in state.hosts)
    places.hostfile.write_text(
        "".join(f"{host.name:{width}} slots={host.slots}\n" for host in state.hosts), encoding="ascii"
    )
    places.ssh_config.write_text(_ssh_config(places, state, proxy=state.mode == "user"), encoding="utf-8")


def _ssh_config(places: Places, state: SandboxState, *, proxy: bool) -> str:
    blocks = []
    for host in state.hosts:
        lines = [
            f"Host {host.name} {host.address}",
            f"  HostName {host.address}",
            f"  Port {host.port}",
            f"  User {host.user}",
            f'  IdentityFile "{places.identity}"',
            "  IdentitiesOnly yes",
            f'  UserKnownHostsFile "{places.known_hosts}"',
            "  GlobalKnownHostsFile /dev/null",
            "  StrictHostKeyChecking yes",
            "  UpdateHostKeys no",
        ]
        if proxy:
            command = shlex.join([*helper("proxy_command"), str(places.state), host.name])
            lines.append(f"  ProxyCommand {command}")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def write_host_files(places: Places, state: SandboxState, server: SshServer) -> None:
    """Each host's own directories, its sshd_config, and the files it sees in place of the machine's."""
    places.home.mkdir(mode=0o700)
    hosts_text = _hosts_file(state.hosts)
    for host in state.hosts:
        directory = places.host(host.name)
        for name in ("home", "sys", "etc", "installed", *(own for own, _ in SCRATCH)):
            (directory / name).mkdir(mode=0o700)
        # Hosts are on one network: what is started on one of them reaches the others without a proxy.
        own_ssh = directory / "home/.ssh"
        own_ssh.mkdir(mode=0o700)
        (own_ssh / "config").write_text(_ssh_config(places, state, proxy=False), encoding="utf-8")
        for own, _ in SCRATCH:
            (directory / own).chmod(0o1777)
        etc = {
            "hosts": hosts_text,
            "hostname": f"{host.name}\n",
            "passwd": _passwd(host.user, places.home),
            "group": _group(),
            "machine-id": f"{secrets.token_hex(16)}\n",
            "boot_id": f"{uuid.uuid4()}\n",
        }
        if state.mode == "root":
            etc["shadow"] = f"{host.user}:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n"
        for name, text in etc.items():
            file = directory / "etc" / name
            file.write_text(text, encoding="utf-8")
            file.chmod(0o600 if name == "shadow" else 0o644)
        (directory / "sshd_config").write_text(
            server_config(
                server,
                port=host.port,
                address="0.0.0.0",
                host_key=directory / "host_key",
                authorized_keys=places.authorized_keys,
                pid_file="/run/sshd.pid",
                session=state.session,
            ),
            encoding="utf-8",
        )


def binds(places: Places, host: str) -> list[tuple[str, str]]:
    """(file of ours, where the host sees it)."""
    etc = places.host(host) / "etc"
    seen = {"boot_id": "/proc/sys/kernel/random/boot_id"}
    return [(str(file), seen.get(file.name, f"/etc/{file.name}")) for file in sorted(etc.iterdir())]


def sshd_command(places: Places, host: str, server: SshServer) -> list[str]:
    """The command that starts a host's sshd in the background."""
    directory = places.host(host)
    return [server.binary, "-f", str(directory / "sshd_config"), "-E", str(directory / "sshd.log")]


def _hosts_file(hosts: Sequence[HostState]) -> str:
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{host.address} {host.name}" for host in hosts]
    # torch looks its peers up by their IPv4-mapped form and complains in every log where nothing is found.
    # Under a name of their own, so that the host's name keeps resolving to one address.
    lines += [f"::ffff:{host.address} {host.name}.peer" for host in hosts]
    return "\n".join(lines) + "\n"


def _passwd(user: str, home: Path) -> str:
    own = pwd.getpwuid(os.getuid())
    shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    lines = [f"{user}:x:{own.pw_uid}:{own.pw_gid}:{user}:{home}:{shell}"]
    for entry in pwd.getpwall():
        if entry.pw_uid != own.pw_uid and entry.pw_name not in (user, "sshd"):
            lines.append(":".join(map(str, (entry[0], "x", *entry[2:]))))
    # The unprivileged half of a root sshd runs as this user.
    lines.append(f"sshd:x:{_PRIVSEP_UID}:65534::/run/sshd:/usr/sbin/nologin")
    return "\n".join(lines) + "\n"


def _group() -> str:
    # Without a group tty sshd hands a terminal to the user's own group, the only one that may exist.
    gone = {"tty"} if os.getuid() else set()
    own = pwd.getpwuid(os.getuid()).pw_gid
    entries = [entry for entry in grp.getgrall() if entry.gr_name not in gone]
    lines = [f"{entry.gr_name}:x:{entry.gr_gid}:{','.join(entry.gr_mem)}" for entry in entries]
    if own not in {entry.gr_gid for entry in entries}:
        lines.append(f"users-own:x:{own}:")
    return "\n".join(lines) + "\n"

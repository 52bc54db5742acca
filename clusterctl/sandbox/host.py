"""One host of a running sandbox: run commands in it, look at it, make it sick."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.sandbox import faults, holder_link, install
from clusterctl.sandbox.addresses import WiredNic
from clusterctl.sandbox.faults import BlockKind, Direction
from clusterctl.sandbox.files import helper
from clusterctl.sandbox.state import HostState, Places, SandboxState
from clusterctl.settings import SANDBOX

_UNTIL_UP = 'for _ in $(seq 99); do ip link show dev "$1" | grep -q LOWER_UP && exit; sleep 0.1; done; exit 1'


class VirtualHost:
    """A host by its name. Faults stay until they are undone or the sandbox goes down."""

    def __init__(self, host: HostState, sandbox: SandboxState, places: Places) -> None:
        self.name = host.name
        self.slots = host.slots
        self.user = host.user
        self.port = host.port
        self.nics = host.nics
        self.directory = places.host(host.name)
        self._host = host
        self._sandbox = sandbox
        self._home = Path.home() if sandbox.simulated else places.home

    @property
    def home(self) -> Path:
        """The home directory of its user, as files on this machine."""
        return self._home if self._sandbox.simulated else self.directory / "home"

    @property
    def root(self) -> Path:
        """The host's view of the file system, as a path on this machine; for plain paths without links."""
        return Path("/" if self._sandbox.simulated else f"/proc/{self._host.pid}/root")

    @property
    def alive(self) -> bool:
        """Whether the host's first process still exists."""
        return self._host.process.alive

    @property
    def accepts_ssh(self) -> bool:
        """Whether an sshd listens on the host's port."""
        if not self.alive:
            return False
        wanted = f":{self.port:04X}"
        rows = Path(f"/proc/{self._host.pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        return any(row.split()[1].endswith(wanted) and row.split()[3] == "0A" for row in rows)

    def address(self, nic: str | None = None) -> str:
        """The IPv4 address of a card (of the one SSH comes in on, when not named); ``""`` for none."""
        return self._card(nic).address

    def environment(self) -> dict[str, str]:
        """What a command over SSH starts with."""
        shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
        own = {"HOME": str(self._home), "USER": self.user, "LOGNAME": self.user, "SHELL": shell}
        return own | self._sandbox.session

    def command(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, terminal: str | None = None
    ) -> list[str]:
        """The local command that runs ``argv`` in the host, in its home directory, as its user."""
        variables = self.environment() | ({"TERM": terminal} if terminal else {}) | dict(env or {})
        if self._sandbox.simulated:
            return ["env", "-i", "-C", str(self._home), *(f"{k}={v}" for k, v in variables.items()), *argv]
        return self._entering(argv, variables, as_user=True)

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout: float = SANDBOX.command_timeout,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside all of the host's namespaces, not over SSH, and capture its output.

        ``env`` comes on top of what a login has. Raises subprocess.TimeoutExpired.
        """
        return subprocess.run(
            self.command(argv, env=env),
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def popen(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command in the host with its output on pipes; ending it ends the command."""
        return subprocess.Popen(
            self.command(argv, env=env),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def pids(self) -> tuple[int, ...]:
        """The processes in the host, by the pids it sees itself; 1 is its init."""
        self._need_namespaces("list the processes")
        return tuple(sorted(int(p.name) for p in (self.root / "proc").iterdir() if p.name.isdigit()))

    def block(
        self,
        direction: Direction = "in",
        kind: BlockKind = "drop",
        ports: tuple[int, int] | None = None,
        peer: str | None = None,
    ) -> None:
        """A firewall rule: with ``ports``, new TCP connections to them; without, every packet (for ``reset``
        every TCP packet), loopback aside. ``peer`` narrows it to one address. IPv4 only.
        """
        self._iptables(faults.block_rule(direction, kind, ports, peer))

    def unblock(self) -> None:
        """Remove every rule of `block`."""
        self._iptables(["-F"])

    def set_mtu(self, nic: str, mtu: int) -> None:
        """The card's own MTU, as its owner sets it."""
        self.admin(["ip", "link", "set", self._card(nic).name, "mtu", str(mtu)])

    def set_switch_mtu(self, nic: str, mtu: int) -> None:
        """What the switch lets through to and from this card: smaller than the card's MTU is a black hole."""
        self._switch(["ip", "link", "set", self._card(nic).port, "mtu", str(mtu)])

    def set_link(self, nic: str, up: bool) -> None:
        """Pull or plug the cable: the card loses its carrier but keeps its address."""
        self._switch(["ip", "link", "set", self._card(nic).port, "up" if up else "down"])

    def limit_bandwidth(self, nic: str, rate: str) -> None:
        """Limit the card to ``rate`` (as tc writes it: ``100mbit``) in both directions."""
        card = self._card(nic)
        self.admin(faults.rate_limit(card.name, rate))
        self._switch(faults.rate_limit(card.port, rate))

    def add_decoy_bridge(
        self, name: str = "docker0", address: str = "172.17.0.1/16", *, carrier: bool = True
    ) -> None:
        """A bridge that leads nowhere. ``carrier``: with something plugged in, as when containers run."""
        for argv in faults.decoy_bridge(name, address, carrier):
            self.admin(argv)
        if carrier:  # the kernel tells of it when it gets around to it, at most once a second
            self.admin(["sh", "-c", _UNTIL_UP, "sh", name])

    def install(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Install a file in this host's view of the machine; no other host, nor the machine itself, sees it.

        Files that exist are covered; new ones may lie in any directory of the machine, or in a new one.
        """
        self._need_namespaces("install a file in its view")
        install.install_file(self, path, content, mode)

    def hide(self, path: str) -> None:
        """Make a directory look empty on this host."""
        self.admin(["mount", "-t", "tmpfs", "-o", "mode=755", "hidden", path])

    def freeze(self) -> None:
        """SIGSTOP for all its processes, sshd included; the kernel still completes TCP connections."""
        self.admin(["/bin/sh", "-c", "kill -s STOP -- -1"])

    def thaw(self) -> None:
        """Undo `freeze`."""
        self.admin(["/bin/sh", "-c", "kill -s CONT -- -1"])

    def crash(self) -> None:
        """Power off: its processes and its network cards are gone at once, and nobody says goodbye."""
        self._need_namespaces("crash")
        for card in self.nics:  # first: its kernel would tell peers that their connections are over
            self.set_link(card.name, up=False)
        holder_link.end(self._host.process)

    def stop_sshd(self) -> None:
        """End the listening sshd; sessions that are open stay open."""
        self._need_namespaces("stop its sshd")
        self.admin(["/bin/sh", "-c", faults.STOP_SSHD])

    def start_sshd(self) -> None:
        """Start sshd again with the configuration as it is on disk now."""
        self._need_namespaces("start its sshd")
        loader = self._sandbox.sshd_environment
        done = self._finish(self._entering(self._host.sshd, loader, as_user=True), "")
        if done.returncode != 0:
            raise ClusterctlError(f"{self.name}: sshd does not start: {done.stderr.strip()}")

    def shell_profile(self, text: str) -> None:
        """Put ``text`` into the ~/.bashrc of this host's user."""
        (self.home / ".bashrc").write_text(text, encoding="utf-8")

    def admin(self, argv: Sequence[str], *, input: str = "") -> str:
        """Run a command with every right inside the host. Returns its output; raises ClusterctlError."""
        self._need_namespaces(f"run {argv[0]}")
        done = self._finish(self._entering(argv, _ADMIN, as_user=False), input)
        return self._output(argv, done)

    def _switch(self, argv: Sequence[str]) -> str:
        self._need_namespaces(f"run {argv[0]}")
        holder = self._sandbox.holder
        assert holder is not None
        order = {
            "pid": holder.pid, "start": holder.start, "argv": list(argv), "env": _ADMIN, "network_only": True,
        }  # fmt: skip
        return self._output(argv, self._finish([*helper("enter_host"), json.dumps(order)], ""))

    def _iptables(self, rule: Sequence[str]) -> None:
        # The default flavour needs nf_tables, which some kernels lack.
        self.admin(["/bin/sh", "-c", faults.EITHER_IPTABLES, "iptables", *rule])

    def _entering(self, argv: Sequence[str], env: Mapping[str, str], *, as_user: bool) -> list[str]:
        order = {
            "pid": self._host.pid,
            "start": self._host.start,
            "argv": list(argv),
            "env": dict(env),
            "cwd": str(self._home) if as_user else "/",
            "as_user": as_user,
        }
        return [*helper("enter_host"), json.dumps(order)]

    def _finish(self, command: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=SANDBOX.command_timeout
        )

    def _output(self, argv: Sequence[str], done: subprocess.CompletedProcess[str]) -> str:
        if done.returncode != 0:
            said = done.stderr.strip() or f"status {done.returncode}"
            raise ClusterctlError(f"{self.name}: `{' '.join(argv)}` failed: {said}")
        return done.stdout

    def _card(self, nic: str | None) -> WiredNic:
        for card in self.nics:
            if nic in (None, card.name):
                return card
        known = ", ".join(card.name for card in self.nics)
        raise UsageError(f"{self.name} has no network card {nic!r}", hint=f"its cards: {known}")

    def _need_namespaces(self, what: str) -> None:
        if self._sandbox.simulated:
            raise ClusterctlError(
                f"{self.name}: cannot {what}: a --loopback sandbox shares everything with this machine"
            )


_ADMIN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}

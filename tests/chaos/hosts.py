"""Hosts made by hand, of nothing the product's sandbox consists of: namespaces, a bridge, an installed sshd.

To be used inside namespaces of the campaign's own (`__main__` sees to that): then all that ran on any host is
gone with the campaign, whatever it left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from clusterctl.sandbox.sshd import find_sshd
from clusterctl.sandbox.state import sandboxes
from tests.chaos.neighbours import Neighbour
from tests.chaos.processes import Process, processes_of

PATIENCE = 60.0
USER = "trainer"
"""Root under another name."""
ORDINARY = "learner"
UNSHARE = ("unshare", "--fork", "--kill-child")
_SSHD = 'LD_LIBRARY_PATH=$SSHD_LIBRARIES exec "$SSHD" -D -e -f "$W/$NAME/sshd_config" 2>> "$W/$NAME/sshd.log"'
_HOST = (
    r"""
set -e
mount --make-rprivate /
mount -t proc proc /proc
mkdir "$W/$NAME/cgroup"
mount --rbind /sys/fs/cgroup "$W/$NAME/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$W/$NAME/cgroup" /sys/fs/cgroup
mount -t tmpfs -o size=48m,mode=755 home /home
mkdir -m 755 /home/trainer /home/learner
chown 1000:1000 /home/learner
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/sshd
mount -t tmpfs -o mode=1777 shm /dev/shm
number=0
for shown in $SHOWN; do
  number=$((number + 1))
  mkdir "$W/$NAME/shown-$number"
  mount --bind "$shown" "$W/$NAME/shown-$number"
done
mount -t tmpfs -o mode=755 root /root
number=0
for shown in $SHOWN; do
  number=$((number + 1))
  mkdir -p "$shown"
  mount --bind "$W/$NAME/shown-$number" "$shown"
done
for file in passwd group hosts; do mount --bind "$W/$file" /etc/$file; done
hostname "$NAME"
touch "$W/$NAME/born"
read -r _
ip link set lo up
ip link set eth0 up
ip addr add "$ADDRESS/24" dev eth0
"""
    + f"( {_SSHD} ) &\nwhile :; do wait || true; sleep 1; done\n"
)


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def fetch_sshd() -> Path:
    """The folder below which a private copy of sshd lies, if this machine has no other."""
    cache = sandboxes(None) / ".cache"
    find_sshd(cache)
    return cache


def _shown(*folders: str | Path) -> str:
    """What an ordinary user of a host needs of root's home, which is closed to others."""
    return " ".join(
        str(each) for each in folders if Path(each).is_relative_to("/root") and Path(each).exists()
    )


@dataclass
class Host:
    name: str
    address: str
    card: str
    """This side of its network cable."""
    init: subprocess.Popen[bytes]
    variables: dict[str, str]
    """What its first process was started with."""
    root: int = 0
    """Pid of its first process."""
    neighbours: list[Neighbour] = field(default_factory=list)

    def see(self, path: str) -> Path:
        """A path as the host sees it."""
        return Path(f"/proc/{self.root}/root{path}")

    def processes(self) -> list[Process]:
        """All but those of its neighbours."""
        others = {each.pid for each in self.neighbours}
        return [each for each in processes_of(self.root, self.name) if each.pid not in others]

    def settle_neighbours(self) -> None:
        """Each user has another job here."""
        for number, user in ((0, USER), (1000, ORDINARY)):
            self.neighbours.append(Neighbour.start(self.root, user, number, f"/home/{user}"))

    def inside(self, *argv: str) -> str:
        """Run a command with the host's view of processes and files."""
        return run("nsenter", "-m", "-p", "-t", str(self.root), *argv)

    def link(self, up: bool) -> None:
        run("ip", "link", "set", self.card, "up" if up else "down")

    @contextlib.contextmanager
    def dropping(self, *, outward: bool) -> Iterator[None]:
        """Lose all that it sends, or all that is sent to it."""
        rule = ["OUTPUT" if outward else "INPUT", "-j", "DROP"]
        table = ["nsenter", "-n", "-t", str(self.root), "iptables"]
        run(*table, "-I", *rule)
        try:
            yield
        finally:
            run(*table, "-D", *rule)

    def serve(self) -> None:
        """Start another sshd, as at first."""
        everything = ["nsenter", "-m", "-n", "-p", "-u", "-i", "-t", str(self.root)]
        subprocess.Popen([*everything, "bash", "-c", _SSHD], env=self.variables, start_new_session=True)

    def locks(self) -> list[str]:
        """Slot locks that somebody holds."""
        held = []
        for path in self.see("/tmp").glob("clusterctl-*-slot-*.lock"):
            with path.open("rb") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    held.append(path.name)
        return held

    @contextlib.contextmanager
    def slow_link(self, rate: str) -> Iterator[None]:
        """So much, such as 1mbit, and not more comes to it and from it."""
        shaped = ["root", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms"]
        inner = ["nsenter", "-n", "-t", str(self.root), "tc", "qdisc"]
        run("tc", "qdisc", "add", "dev", self.card, *shaped)
        run(*inner, "add", "dev", "eth0", *shaped)
        try:
            yield
        finally:
            run("tc", "qdisc", "del", "dev", self.card, "root")
            run(*inner, "del", "dev", "eth0", "root")

    def fill(self) -> None:
        """Leave no byte of its home's disk."""
        with self.see(f"/home/{USER}/filler").open("wb") as stream:
            try:
                while True:
                    stream.write(b"\0" * 2**20)
                    stream.flush()
            except OSError:
                return

    def drain(self) -> None:
        self.see(f"/home/{USER}/filler").unlink(missing_ok=True)


@dataclass
class World:
    """Some hosts on one bridge, and the controlling machine with its keys, home and hostfile."""

    folder: Path
    slots: int
    hosts: list[Host] = field(default_factory=list)
    spares: list[Host] = field(default_factory=list)
    """Not in the hostfile of most rounds."""

    @property
    def home(self) -> Path:
        return self.folder / "controller"

    @property
    def project(self) -> Path:
        """The user's scripts, where only the controlling machine sees them: they have to travel."""
        return Path("/tmp", self.folder.name)

    @property
    def hostfile(self) -> Path:
        return self.folder / "hostfile"

    @property
    def hostfile_with_spares(self) -> Path:
        return self.folder / "hostfile.spares"

    @property
    def every(self) -> list[Host]:
        return self.hosts + self.spares

    @property
    def profile(self) -> Path:
        """For rounds whose engine is the stand-in."""
        return self.folder / "standin.yaml"

    @property
    def ordinary_config(self) -> Path:
        """For rounds in which the hosts' user is not root."""
        return self.folder / "ssh_config.ordinary"

    def environment(self) -> dict[str, str]:
        own = {"CLUSTERCTL_HOME": str(self.home), "CLUSTERCTL_SSH_CONFIG": str(self.folder / "ssh_config")}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CLUSTERCTL_")}
        return kept | own | {"CLUSTERCTL_HOSTFILE": str(self.hostfile), "COLUMNS": "160"}

    def build(self, count: int, spares: int) -> None:
        own_sshd = fetch_sshd() / "openssh"
        if own_sshd.exists():  # the hosts have another /tmp and another home
            shutil.copytree(own_sshd.resolve(), self.folder / "cache/openssh")
        shutil.copytree(Path(__file__).resolve().parent / "scripts", self.project)
        self.folder.chmod(0o711)
        self.home.mkdir(mode=0o700)
        run("mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "controller", str(self.home))
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "br0", "type", "bridge")
        run("ip", "addr", "add", "10.77.0.1/24", "dev", "br0")
        run("ip", "link", "set", "br0", "up")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "key"))
        names = [f"metal{index}" for index in range(1, count + spares + 1)]
        addresses = {name: f"10.77.0.{index + 10}" for index, name in enumerate(names)}
        self._write_files(addresses, count)
        for name, address in addresses.items():
            (self.hosts if len(self.hosts) < count else self.spares).append(self._start(name, address))
        for host in self.every:
            self._wait_for_sshd(host)
            host.settle_neighbours()

    def _write_files(self, addresses: dict[str, str], count: int) -> None:
        (self.folder / "passwd").write_text(
            f"{USER}:x:0:0::/home/{USER}:/bin/bash\nroot:x:0:0:root:/root:/bin/bash\n"
            f"{ORDINARY}:x:1000:1000::/home/{ORDINARY}:/bin/bash\n"
            "sshd:x:74:74::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"
        )
        (self.folder / "group").write_text("root:x:0:\nsshd:x:74:\nnogroup:x:65534:\n")
        lines = "".join(f"{address} {name}\n" for name, address in addresses.items())
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{lines}")
        entries = [f"{name} slots={self.slots}\n" for name in addresses]
        self.hostfile.write_text("".join(entries[:count]))
        self.hostfile_with_spares.write_text("".join(entries))
        (self.folder / "ssh_config").write_text(
            "".join(f"Host {name}\n  HostName {address}\n" for name, address in addresses.items())
            + f"Host *\n  User {USER}\n  IdentityFile {self.folder}/key\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.folder}/known_hosts\n"
        )
        config = (self.folder / "ssh_config").read_text()
        self.ordinary_config.write_text(config.replace(f"User {USER}", f"User {ORDINARY}"))
        environment = self.folder / "standin"
        run(sys.executable, "-m", "venv", "--without-pip", str(environment))
        (site,) = environment.glob("lib/python*/site-packages")
        (site / "torch").symlink_to(Path(__file__).resolve().parent / "standin/torch")
        self.profile.write_text(f"python: {environment}/bin/python\n")

    def _start(self, name: str, address: str) -> Host:
        own = self.folder / name
        own.mkdir()
        server = find_sshd(self.folder / "cache")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(own / "host_key"))
        public = (own / "host_key.pub").read_text().split()
        with (self.folder / "known_hosts").open("a") as stream:
            stream.write(f"{name},{address} {public[0]} {public[1]}\n")
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        lines = [
            f"HostKey {own}/host_key", f"ListenAddress {address}", "PidFile none", "StrictModes no",
            "UsePAM no", f"AuthorizedKeysFile {self.folder}/key.pub", "PermitRootLogin yes",
            "PasswordAuthentication no", "Port 22", "Port 2222",
            f'SetEnv "PATH={path}"', "PrintMotd no", "PrintLastLog no", "MaxStartups 200:30:400",
            *server.options,
        ]  # fmt: skip
        (own / "sshd_config").write_text("\n".join(lines) + "\n")
        card = f"to-{name}"
        run("ip", "link", "add", card, "type", "veth", "peer", "name", f"x{name}")
        run("ip", "link", "set", card, "master", "br0", "up")
        variables = {
            **os.environ, "W": str(self.folder), "NAME": name, "ADDRESS": address, "SSHD": server.binary,
            "SSHD_LIBRARIES": server.library_path, "SHOWN": _shown(sys.base_prefix),
        }  # fmt: skip
        init = subprocess.Popen(
            [*UNSHARE, "--net", "--pid", "--mount", "--uts", "--ipc", "bash", "-c", _HOST],
            env=variables, stdin=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        host = Host(name, address, card, init, variables)
        until = time.monotonic() + PATIENCE
        while not (own / "born").exists():
            assert time.monotonic() < until and init.poll() is None, f"{name} was not born"
            time.sleep(0.02)
        host.root = int(Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text().split()[0])
        run("ip", "link", "set", f"x{name}", "netns", str(host.root), "name", "eth0")
        assert init.stdin is not None
        init.stdin.write(b"\n")
        init.stdin.flush()
        return host

    def _wait_for_sshd(self, host: Host) -> None:
        until = time.monotonic() + PATIENCE
        while subprocess.run(
            ["ssh", "-F", str(self.folder / "ssh_config"), "-o", "BatchMode=yes", host.name, "true"],
            capture_output=True, check=False,
        ).returncode:  # fmt: skip
            assert time.monotonic() < until, (self.folder / host.name / "sshd.log").read_text()
            time.sleep(0.1)

    def close(self) -> None:
        for host in self.every:
            run("ip", "link", "del", host.card)
            host.init.kill()
            host.init.wait()
        run("ip", "link", "del", "br0")
        run("umount", "-l", str(self.home))
        shutil.rmtree(self.folder)
        shutil.rmtree(self.project)

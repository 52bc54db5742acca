"""Hosts with odd interfaces, made of a network namespace, and what real libraries take there.

``python -m tests.nccl_zoos`` records `FIXTURE` anew, with the libraries of `VERSIONS`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import msgspec

from clusterctl.facts.model import Interface
from clusterctl.node.traffic import nccl_child

VERSIONS = ("2.20.5", "2.27.5", "2.32.3")
FIXTURE = Path(__file__).parent / "fixtures/nccl/picks.json"
CACHE_VARIABLE = "CLUSTERCTL_TEST_NCCL"
GENERATED = 45


class Link(msgspec.Struct, frozen=True):
    """A virtual cable, or a bridge, under any name. A cable without ``carrier`` has its far end
    switched off."""

    name: str
    addresses: tuple[str, ...] = ()
    bridge: bool = False
    up: bool = True
    carrier: bool = True


class Zoo(msgspec.Struct, frozen=True):
    """``links`` in the order in which they are made, which is the order of their indices."""

    name: str
    links: tuple[Link, ...]
    env: dict[str, str] = {}
    loopback: bool = True


class Pick(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a library said: the address, or that there is no interface for it."""

    address: str = ""
    refused: bool = False


class Recorded(msgspec.Struct, frozen=True):
    zoo: Zoo
    interfaces: tuple[Interface, ...]
    """As the probe sees them."""
    picks: dict[str, Pick]


def recorded() -> list[Recorded]:
    return msgspec.json.decode(FIXTURE.read_bytes(), type=list[Recorded])


def library(version: str) -> Path:
    """The real libnccl of that version, from PyPI, kept in ``$CLUSTERCTL_TEST_NCCL`` or ~/.cache."""
    cache = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache/clusterctl-nccl")
    path = cache / version / "libnccl.so.2"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        wheel = f"nvidia-nccl-cu12=={version}"
        options = ["--no-deps", "--no-cache-dir", "--quiet", "--dest", str(path.parent)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, wheel], check=True)
        (archive,) = path.parent.glob("*.whl")
        with zipfile.ZipFile(archive) as opened:
            partial = path.with_suffix(".part")
            partial.write_bytes(opened.read("nvidia/nccl/lib/libnccl.so.2"))
            partial.rename(path)
        archive.unlink()
    return path


def zoos() -> list[Zoo]:
    return [*_named(), *(_generated(number) for number in range(GENERATED))]


def _named() -> list[Zoo]:
    eth, docker = Link("eth0", ("10.0.0.5/24",)), Link("docker0", ("172.17.0.1/16",), bridge=True)
    virbr = Link("virbr0", ("192.168.122.1/24",), bridge=True)
    dead = Link("eno1", ("10.1.0.5/24",), carrier=False)
    down = Link("eno1", ("10.1.0.5/24",), up=False)
    made = [
        Zoo("one card", (eth,)),
        Zoo("a bridge of docker's own made first", (Link("br-ab12cd", ("172.18.0.1/16",)), eth)),
        Zoo("docker0 made first", (docker, eth)),
        Zoo("nothing but docker0", (docker,)),
        Zoo("nothing at all", ()),
        Zoo("not even a loopback that is up", (), loopback=False),
        Zoo("nothing but virbr0", (virbr,)),
        Zoo("virbr0 made first", (virbr, eth)),
        Zoo("virbr0 and docker0", (virbr, docker)),
        Zoo("a card without a cable made first", (dead, eth)),
        Zoo("a card that is down made first", (down, eth)),
        Zoo("nothing but a card without a cable", (dead,)),
        Zoo("ib0 made last", (eth, Link("ib0", ("10.2.0.5/24",)))),
        Zoo("ib0 without a cable", (eth, Link("ib0", ("10.2.0.5/24",), carrier=False))),
        Zoo("a name that begins with ib", (eth, Link("ibm0", ("10.2.0.5/24",)))),
        Zoo("only a link-local address made first", (Link("veth7", ("fe80::7/64",)), docker)),
        Zoo("IPv6 alone", (Link("eth0", ("fd00::5/64",)),)),
        Zoo("two addresses", (Link("eth0", ("10.0.0.5/24", "10.9.0.5/24")),)),
        Zoo("a VLAN's name", (Link("bond0.100", ("10.3.0.5/24",)), Link("bond0", ("10.4.0.5/24",)))),
        Zoo("IPv6 first by index", (Link("eth1", ("fd00::5/64",)), eth)),
    ]
    two = (Link("eth10", ("10.5.0.5/24",)), Link("eth1", ("10.6.0.5/24",)), eth)
    for value in (
        "eth1",
        "=eth1",
        "=eth1 ",
        "^eth1",
        "^=eth1",
        "e",
        "",
        "10.0.0.5",
        "eth9,eth0",
        "=,",
        "^",
        "^=,",
    ):
        made.append(Zoo(f"NCCL_SOCKET_IFNAME={value!r}", two, {"NCCL_SOCKET_IFNAME": value}))
    for value in ("eth1:4000", "^docker,lo,eth", "=eth0,eth1", "^=docker0"):
        made.append(
            Zoo(f"NCCL_SOCKET_IFNAME={value!r} and docker0", (docker, *two), {"NCCL_SOCKET_IFNAME": value})
        )
    many = ",".join(f"eno{number}" for number in range(1, 17))
    for value in (f"={many},eth1", f"={many[:-6]},eth1"):
        made.append(Zoo(f"NCCL_SOCKET_IFNAME={value!r}", two, {"NCCL_SOCKET_IFNAME": value}))
    both = (Link("eth0", ("10.0.0.5/24", "fd00::5/64")), Link("eth1", ("fd00:1::5/64",)))
    for value in ("AF_INET", "AF_INET6", "AF_UNIX"):
        made.append(Zoo(f"NCCL_SOCKET_FAMILY={value}", both, {"NCCL_SOCKET_FAMILY": value}))
    return made


def _generated(number: int) -> Zoo:
    """The same for one number, always."""
    pick = random.Random(f"zoo {number}")
    names = ["eth0", "eth1", "eno1", "enp5s0f0", "ib0", "docker0", "virbr0", "br-1a2b", "cni0", "tailscale0"]
    names += ["bond0", "bond0.7", "lxdbr0", "wlan0", "flannel.1", "loop0"]
    links = []
    for place, name in enumerate(pick.sample(names, pick.randint(1, 5))):
        addresses = [f"10.{number}.{place}.5/24"] if pick.random() < 0.8 else []
        if pick.random() < 0.3:
            addresses.append(f"fd00:{number}:{place}::5/64")
        bridge = name.startswith(("docker", "virbr", "br-", "cni", "lxd"))
        up = pick.random() < 0.9
        links.append(Link(name, tuple(addresses), bridge, up, up and pick.random() < 0.8))
    env = {}
    if pick.random() < 0.5:
        value = ",".join(
            pick.sample([link.name for link in links] + ["eth", "docker", "lo", "b"], pick.randint(1, 2))
        )
        env["NCCL_SOCKET_IFNAME"] = pick.choice(["", "", "=", "^", "^="]) + value
    if pick.random() < 0.2:
        env["NCCL_SOCKET_FAMILY"] = pick.choice(["AF_INET", "AF_INET6"])
    return Zoo(f"generated {number}", tuple(links), env, pick.random() < 0.9)


def look(zoo: Zoo, libraries: dict[str, Path]) -> Recorded:
    """Make the zoo in a namespace of its own and ask every library there."""
    told = subprocess.run(
        ["unshare", "-rn", sys.executable, "-m", "tests.nccl_zoos", "inside"],
        input=msgspec.json.encode([zoo, {version: str(path) for version, path in libraries.items()}]),
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    return msgspec.json.decode(told.stdout, type=Recorded)


def _inside() -> Recorded:
    from clusterctl.node.probe import net

    zoo, paths = msgspec.json.decode(sys.stdin.buffer.read(), type=tuple[Zoo, dict[str, str]])
    for setting in ("default/addr_gen_mode", "all/addr_gen_mode"):
        Path(f"/proc/sys/net/ipv6/conf/{setting}").write_text("1")
    lines = ["link set lo up"] if zoo.loopback else []
    for number, link in enumerate(zoo.links):
        lines += list(_commands(link, number))
    subprocess.run(["ip", "-force", "-batch", "-"], input="\n".join(lines), text=True, check=True)
    running = {link.name: link.up and link.carrier for link in zoo.links}
    while True:  # a kernel says within a second or so that a bridge has no carrier
        interfaces = tuple(msgspec.convert(each, Interface) for each in net.interfaces()["interfaces"])
        if all(link.running == running.get(link.name, link.running) for link in interfaces):
            break
        time.sleep(0.05)
    return Recorded(zoo, interfaces, {version: _ask(path, zoo.env) for version, path in paths.items()})


def _commands(link: Link, number: int) -> list[str]:
    port, far = (link.name, f"far{number}") if not link.bridge else (f"port{number}", f"far{number}")
    lines = [f"link add {link.name} type bridge"] if link.bridge else []
    lines.append(f"link add {port} type veth peer name {far}")
    if link.bridge:
        lines.append(f"link set {port} master {link.name} up")
    lines += [
        f"addr add {address} dev {link.name}{' nodad' * (':' in address)}" for address in link.addresses
    ]
    if link.carrier:
        lines.append(f"link set {far} up")
    if link.up:
        lines.append(f"link set {link.name} up")
    return lines


def _ask(path: str, env: dict[str, str]) -> Pick:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NCCL_")}
    with subprocess.Popen(
        [sys.executable, "-S", nccl_child.__file__, path],
        env={**clean, **env},
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        line = next(line for line in child.stdout if line.startswith(b'{"nccl"'))
        child.kill()
    told: dict[str, Any] = json.loads(line)["nccl"]
    return Pick(address=told.get("address", ""), refused="refused" in told)


def _slim(found: Recorded) -> dict[str, Any]:
    """Without what no rule reads: interfaces that have no address, Ethernet addresses, what is not known."""
    told: dict[str, Any] = msgspec.to_builtins(found)
    told["interfaces"] = [
        {name: value for name, value in each.items() if name != "mac" and value not in (None, "", [])}
        for each in told["interfaces"]
        if each["addresses"]
    ]
    return told


def main() -> None:
    libraries = {version: library(version) for version in VERSIONS}
    found = [look(zoo, libraries) for zoo in zoos()]
    FIXTURE.parent.mkdir(parents=True, exist_ok=True)
    lines = b",\n".join(msgspec.json.encode(_slim(each)) for each in found)
    FIXTURE.write_bytes(b"[\n" + lines + b"\n]\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["inside"]:
        sys.stdout.buffer.write(msgspec.json.encode(_inside()))
    else:
        main()

"""Faults of DeepSpeed's launcher, with the real one over the real pdsh: its own login to one host fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.hosts import Host
from tests.chaos.processes import find
from tests.chaos.rounds import Broken, Expected, Round

NAMES = ("as they are", "FQDN", "aliases with a port")


def _names(r: Round) -> tuple[str, dict[str, str]]:
    """What the hosts are called in this round's hostfile: how, and name -> alias."""
    how = r.rng.choice(NAMES)
    if how == "FQDN":
        return how, {host.name: f"{host.name}.lab.example" for host in r.world.hosts}
    if how == "aliases with a port":
        return how, {host.name: f"box-{index}" for index, host in enumerate(r.world.hosts)}
    return how, {host.name: host.name for host in r.world.hosts}


def _write(r: Round, aliases: dict[str, str]) -> Path:
    """A hostfile with these names; ssh knows them too."""
    config = r.world.folder / "ssh_config"
    known = r.world.folder / "known_hosts"
    text = config.read_text()
    for host in r.world.hosts:
        alias = aliases[host.name]
        if f"Host {alias}\n" not in text:
            text = f"Host {alias}\n  HostName {host.address}\n  Port 2222\n" + text
            key = (r.world.folder / host.name / "host_key.pub").read_text().rpartition(" ")[0]
            with known.open("a") as stream:
                stream.write(f"[{host.address}]:2222 {key}\n")
    config.write_text(text)
    hostfile = r.world.folder / "aliases"
    hostfile.write_text("".join(f"{aliases[h.name]} slots={r.slots}\n" for h in r.world.hosts))
    return hostfile


def pdsh_login_fails(r: Round) -> Expected:
    """Once launch is logged in, there is no second login to a host: pdsh's own ssh ends with 255."""
    host = r.any_host()
    how, aliases = _names(r)
    refusal = r.rng.choice((_no_key, _other_host_key))
    r.note(f"names {how}; no second login to {host.name}: {refusal.__name__.strip('_')}")
    r.real = True
    r.launch(
        1000, options=["-H", str(_write(r, aliases)), "--engine", "deepspeed", "--no-local-rank"], drawn=False
    )
    r.wait_until(lambda: bool(find(host.processes(), "relay")), f"launch is logged in to {host.name}")
    with refusal(r, host) as line:
        r.returns()
    said = r.screen.read_text(errors="replace")
    if line not in said:
        raise Broken(f"pdsh's line is not on the screen: {said[-600:]}")
    return Expected((125,), ("internal",), aliases[host.name], logs=False)


@contextlib.contextmanager
def _no_key(r: Round, host: Host) -> Iterator[str]:
    keys = str(r.world.folder / "key.pub")
    host.inside("mount", "--bind", "/dev/null", keys)
    yield "Permission denied"
    host.inside("umount", "-l", keys)


@contextlib.contextmanager
def _other_host_key(r: Round, host: Host) -> Iterator[str]:
    known = r.world.folder / "known_hosts"
    before = known.read_text()
    other = next(each for each in r.world.hosts if each is not host)
    lines = before.splitlines(keepends=True)
    kept = [line for line in lines if host.address not in line]
    wrong = [line.replace(other.address, host.address) for line in lines if other.address in line]
    known.write_text("".join(kept + wrong))
    yield "Host key verification failed"
    known.write_text(before)

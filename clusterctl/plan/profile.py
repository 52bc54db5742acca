"""An environment profile: which python trains on the nodes, what it holds, and which variables it gets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin

import msgspec

from clusterctl.errors import UsageError
from clusterctl.facts import versions
from clusterctl.facts.model import Facts
from clusterctl.plan.variables import check_name

if TYPE_CHECKING:
    from clusterctl.plan import yaml_lines
    from clusterctl.plan.yaml_lines import Path

EXPECTABLE = (
    "python", "torch", "cuda", "nccl", "driver", "kernel", "deepspeed", "transformers", "accelerate",
    "datasets", "tokenizers", "peft", "numpy", "flash-attn", "triton", "bitsandbytes",
)  # fmt: skip

_EXAMPLES = {
    "activate": "activate: conda activate train",
    "env": "env: {NCCL_DEBUG: WARN}",
    "expect": 'expect: {torch: ">=2.4,<3"}',
    "hosts": "hosts: {gpu3: {python: /opt/venv/bin/python}}",
    "network": "network: {subnet: 10.0.5.0/24}",
    "python": "python: /opt/venv/bin/python",
}


class HostProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What is different on one host. Empty means: as for all."""

    python: str = ""
    activate: str = ""
    env: dict[str, str] = {}
    workdir: str = ""
    """Where the working directory lies there (``~/`` is its home), if not at the same path as here."""
    ifname: str = ""


class NetworkPin(msgspec.Struct, frozen=True, kw_only=True):
    """The network to use, by interface name (where it is the same on all hosts) or by subnet."""

    ifname: str = ""
    subnet: str = ""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of ``envs/``. Versions in ``expect`` are prefixes (3.11 is satisfied by 3.11.7) or ranges."""

    description: str = ""
    python: str | dict[str, str] = ""
    """Absolute path on the nodes (``~/`` is the home directory there), or one for each host."""
    activate: str = ""
    """A line for bash that prepares the environment, such as ``conda activate train``. Without ``python``
    the first interpreter of the PATH it makes is used."""
    expect: dict[str, str] = {}
    env: dict[str, str] = {}
    hosts: dict[str, HostProfile] = {}
    network: NetworkPin = NetworkPin()

    def python_of(self, host: str) -> str:
        """The interpreter for one host; "" where the profile leaves it to the host."""
        own = self.hosts[host].python if host in self.hosts else ""
        return own or (self.python if isinstance(self.python, str) else self.python.get(host, ""))

    def activate_of(self, host: str) -> str:
        """The activation line for one host; "" for none."""
        return (self.hosts[host].activate if host in self.hosts else "") or self.activate

    def workdir_of(self, host: str) -> str:
        """Where the working directory lies on this host; "" for the same path as here."""
        return self.hosts[host].workdir if host in self.hosts else ""

    def env_of(self, host: str) -> dict[str, str]:
        """Variables for one host; its own win over those for all."""
        return {**self.env, **(self.hosts[host].env if host in self.hosts else {})}

    def pins(self, facts: Mapping[str, Facts]) -> dict[str, str]:
        """Host -> the interface this profile wants; hosts it says nothing about are left out.

        A host without an address in the wanted subnet gets the subnet's text: no interface has that name, so
        the choice of the network says that the pin cannot be met there.
        """
        found = {}
        for host, of_host in facts.items():
            own = self.hosts[host].ifname if host in self.hosts else ""
            wanted = own or self.network.ifname
            if wanted or self.network.subnet:
                found[host] = wanted or _inside(of_host, self.network.subnet) or self.network.subnet
        return found


def decode(text: str, source: str) -> Profile:
    """Read a profile. Raises UsageError that names the place: ``envs/x.yaml line 4, expect.torhc: ...``."""
    from clusterctl.plan import yaml_lines  # yaml is not for those who have no profile

    document = yaml_lines.load(text, source)
    profile: Profile = _convert(document, document.value, (), Profile)
    _check(document, profile)
    return profile


def _convert(document: yaml_lines.Document, value: Any, path: Path, kind: Any) -> Any:
    """As msgspec.convert, but an error knows every key on its path, so that it can name the line."""
    if isinstance(kind, UnionType) and isinstance(value, dict):
        kind = next(each for each in get_args(kind) if get_origin(each) is dict)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
        for key in value:
            if key not in fields:
                raise _no_such_key(document, (*path, key), tuple(fields))
        return kind(
            **{key: _convert(document, item, (*path, key), fields[key]) for key, item in value.items()}
        )
    if get_origin(kind) is dict and isinstance(value, dict):
        of_item = get_args(kind)[1]
        return {key: _convert(document, item, (*path, key), of_item) for key, item in value.items()}
    if isinstance(value, str) and "\0" in value:
        raise UsageError(f"{document.place(path)}: a NUL is in it", hint="no path or variable can hold one")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        is_map = not isinstance(kind, type) or issubclass(kind, msgspec.Struct)
        wanted = "`key: value` lines" if is_map else "a single value"
        if isinstance(kind, UnionType):
            wanted = "an absolute path, or `key: value` lines with one for each host"
        raise UsageError(
            f"{document.place(path)}: must be {wanted}, not {_shape(value)}",
            hint=f"as in `{_EXAMPLES.get(path[-1]) or _example(path[-1], is_map=is_map)}`",
        ) from None


def _example(key: str, *, is_map: bool) -> str:
    return f"{key}: {{python: /opt/venv/bin/python}}" if is_map else f"{key}: text"


def _shape(value: Any) -> str:
    if isinstance(value, list):
        return "a list"
    return "`key: value` lines" if isinstance(value, dict) else repr(value)


def _no_such_key(document: yaml_lines.Document, path: Path, known: tuple[str, ...]) -> UsageError:
    near = get_close_matches(path[-1], known, n=1)
    return UsageError(
        f"{document.place(path)}: unknown key",
        hint=f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}",
    )


def _check(document: yaml_lines.Document, profile: Profile) -> None:
    for name, wanted in profile.expect.items():
        if name not in EXPECTABLE:
            raise _no_such_key(document, ("expect", name), EXPECTABLE)
        if wrong := versions.problem(wanted):
            raise UsageError(
                f"{document.place(('expect', name))}: {wrong}",
                hint='a version such as 2.4 (2.4.1 fits it too), or a range such as ">=2.4,<3"',
            )
    for path, text in _interpreters(profile):
        if (text or path in document.lines) and not text.startswith(("/", "~/")):
            raise UsageError(
                f"{document.place(path)}: {text!r} is not an absolute path",
                hint="the interpreter on the nodes, e.g. /opt/venv/bin/python; without it, the usual one",
            )
    for host, each in profile.hosts.items():
        if each.workdir and not each.workdir.startswith(("/", "~/")):
            raise UsageError(
                f"{document.place(('hosts', host, 'workdir'))}: {each.workdir!r} is not an absolute path",
                hint="where the working directory lies on that host, e.g. /data/project",
            )
    pins: list[tuple[Path, str]] = [(("network", "ifname"), profile.network.ifname)]
    pins += [(("hosts", host, "ifname"), each.ifname) for host, each in profile.hosts.items()]
    for path, ifname in pins:
        if ifname and not re.fullmatch(r"[^\s/]{1,15}", ifname):
            raise UsageError(
                f"{document.place(path)}: {ifname!r} cannot be the name of an interface",
                hint="one name as in `ip link`, of at most 15 letters: eno1",
            )
    if profile.network.ifname and profile.network.subnet:
        raise UsageError(
            f"{document.place(('network', 'subnet'))}: ifname and subnet both pin the network",
            hint="keep one of them; a host with another name has an ifname of its own under `hosts:`",
        )
    own = [(("hosts", host, "env"), each.env) for host, each in profile.hosts.items()]
    for base, names in ((("env",), profile.env), *own):
        for name in names:
            check_name(name, document.place((*base, name)))
    if profile.network.subnet:
        try:
            ip_network(profile.network.subnet)
        except ValueError as error:
            raise UsageError(
                f"{document.place(('network', 'subnet'))}: {error}", hint="as in 10.0.5.0/24"
            ) from None


def _interpreters(profile: Profile) -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]]
    if isinstance(profile.python, str):
        found = [(("python",), profile.python)]
    else:
        found = [(("python", host), path) for host, path in profile.python.items()]
    return found + [(("hosts", host, "python"), own.python) for host, own in profile.hosts.items()]


def _inside(facts: Facts, subnet: str) -> str:
    network = ip_network(subnet)
    return next(
        (
            link.name
            for link in facts.interfaces
            for address in link.addresses
            if ip_address(address.address) in network
        ),
        "",
    )

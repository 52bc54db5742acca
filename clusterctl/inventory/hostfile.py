"""Hostfile text -> Inventory, with DeepSpeed 0.19.8's grammar: `host slots=N`, comments, blank lines.

What DeepSpeed accepts is accepted, what it rejects is rejected. Two cases differ on purpose, because
DeepSpeed would start something absurd: a byte order mark is no part of the first name, and no host has a
million GPUs.
"""

from __future__ import annotations

import re

from clusterctl.errors import UsageError
from clusterctl.inventory.model import Host, HostfileWarning, Inventory

_ENTRY = re.compile(r"(\S+)\s+slots=(\d+)")
_MOST_SLOTS = 65_536
_BYTE_ORDER_MARK = "\ufeff"


def parse(text: str, source: str) -> Inventory:
    """All hosts of a hostfile, in its order. ``source`` names the file in messages.

    Raises UsageError at the first line DeepSpeed would refuse; ``where`` is ``<source> line <n>``.
    """
    hosts: dict[str, Host] = {}
    warnings: list[HostfileWarning] = []
    for number, raw in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        where = f"{source} line {number}"
        entry = _ENTRY.match(line)
        if entry is None:
            raise _bad_line(where, line)
        name = entry.group(1).removeprefix(_BYTE_ORDER_MARK)
        if name in hosts:
            raise UsageError(
                f"{where}: host '{name}' is already on line {hosts[name].line}",
                hint="give every host one line; add the slots of both lines together",
            )
        hosts[name] = Host(name, *_slots(where, entry.group(2)), line=number)
        warnings += _misreadings(where, line, entry)
    if not hosts:
        raise UsageError(
            f"{source} names no host",
            hint="write one line for each machine, such as: gpu1 slots=8",
        )
    return Inventory(source, tuple(hosts.values()), tuple(warnings))


def _slots(where: str, digits: str) -> tuple[int, tuple[int, ...]]:
    if len(digits) > len(str(_MOST_SLOTS)) + 20 or int(digits) > _MOST_SLOTS:
        raise UsageError(
            f"{where}: no machine has that many GPUs (at most {_MOST_SLOTS} slots are accepted)",
            hint="slots is the number of GPUs to use on the host",
        )
    return int(digits), tuple(range(int(digits)))


def _bad_line(where: str, line: str) -> UsageError:
    shown = line if len(line) <= 60 else f"{line[:57]}..."
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    if line.startswith(_BYTE_ORDER_MARK):
        return UsageError(
            f"{where}: the line begins with an invisible byte order mark",
            hint="save the file as UTF-8 without BOM",
        )
    if re.search(r"slots(\s+=|=\s)", line):
        return UsageError(
            f"{where}: spaces around '=' in '{shown}'", hint="write it without: " + _joined(line)
        )
    if "slots=" not in line and (pair := re.fullmatch(r"([^\s:=]+)[:=](\d+)", line)):
        return UsageError(
            f"{where}: '{shown}' is another tool's form", hint=f"write: {pair.group(1)} slots={pair.group(2)}"
        )
    if not rest:
        return UsageError(
            f"{where}: '{shown}' does not say how many GPUs the host has",
            hint=f"write: {line} slots=8 (with the number of its GPUs)",
        )
    if count := re.match(r"(?i:slots?|gpus?|ngpus|max_slots)?[=:]?(\d+)$", rest):
        return UsageError(
            f"{where}: '{shown}' is not 'HOST slots=N'", hint=f"write: {name} slots={count.group(1)}"
        )
    if re.search(r"\sslots=\d", line):
        return UsageError(
            f"{where}: text between the host and its slots in '{shown}'",
            hint="slots=N must follow the host name directly; anything else comes after it",
        )
    if re.search(r"(?i)\sslots=", line):
        return UsageError(
            f"{where}: '{shown}' does not say slots= and a whole number", hint=f"write: {name} slots=8"
        )
    return UsageError(
        f"{where}: '{shown}' is not 'HOST slots=N'",
        hint="one host a line, such as: gpu1 slots=8; comments begin with #",
    )


def _joined(line: str) -> str:
    return re.sub(r"slots\s*=\s*", "slots=", line)


def _misreadings(where: str, line: str, entry: re.Match[str]) -> list[HostfileWarning]:
    """What DeepSpeed accepts on this line but does not read the way it looks."""
    found = []

    def warn(message: str, hint: str) -> None:
        found.append(HostfileWarning(where, message, hint))

    name, slots, rest = entry.group(1), entry.group(2), line[entry.end() :]
    if name.startswith(_BYTE_ORDER_MARK):
        warn(
            "the file begins with an invisible byte order mark, which DeepSpeed takes for part of the name",
            "save the file as UTF-8 without BOM",
        )
    if re.search(r"\[[^\]]*\]", name):
        warn(
            f"'{name}' is one host of exactly this name: hostfiles know no ranges",
            "write one line for each host (`clusterctl init 'gpu[1-4]'` does)",
        )
    if re.fullmatch(r"[^:]+:\d+", name):
        host, _, port = name.rpartition(":")
        warn(
            f"'{name}' is one host of exactly this name: the port is not split off",
            f"write {host}, and `Port {port}` under `Host {host}` in your ssh config",
        )
    if "," in name:
        warn(f"'{name}' is one host of exactly this name", "write one line for each host")
    if int(slots) == 0:
        warn(f"slots=0: {name} takes no part", "give the number of its GPUs, or put # before the line")
    if rest and not rest[0].isspace() and rest[0] != "#":
        warn(f"'slots={slots}{rest.split()[0]}' is read as slots={slots}", f"write slots={slots}")
    elif re.search(r"\bslots=", rest.split("#")[0].replace("max_slots=", "")):
        warn(
            f"'{rest.strip()}' is ignored, though it looks like a second host",
            "write one line for each host",
        )
    elif stray := [
        word for word in rest.split("#")[0].split() if not re.fullmatch(r"[A-Za-z_]\w*=\S*", word)
    ]:
        warn(f"'{' '.join(stray)}' after slots={slots} is ignored", "put # before a comment")
    return found

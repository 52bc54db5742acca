"""What cures a finding: lines for a shell, made of checked and quoted parts, or words for a person."""

from __future__ import annotations

import re
import shlex
from ipaddress import ip_address, ip_network
from typing import Literal

import msgspec

from clusterctl.checks.safe import SafeAction

_HOST = re.compile(r"\bHOST\b")
_LONGEST = 300
"""Letters of a line on a page; a longer one is in the script only."""

Where = Literal["host", "here", "launch"]


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """``commands`` for bash on ``where``, one after another; without any, ``advice`` is for a person to do.

    ``where`` is the host, this machine, or the options of a launch. ``looks``: the commands change nothing,
    they show the cause. ``reboots`` says that they end the host's sessions, ``until_boot`` that they last no
    longer. ``instead`` are other ways to the same end, ``ways`` the lines for several systems where nobody
    knows which of them the host has: too long for a page. ``actions`` are what doctor itself may do, each
    the command in its place.
    """

    commands: tuple[str, ...] = ()
    advice: str = ""
    instead: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    where: Where = "host"
    needs_root: bool = False
    looks: bool = False
    reboots: bool = False
    until_boot: bool = False
    actions: tuple[SafeAction, ...] = ()

    @property
    def text(self) -> str:
        """For a report: a line to type first, then what follows it, then the other ways."""
        typed = self.commands
        if any(len(each) > _LONGEST for each in typed):
            typed = ("clusterctl doctor --fix",)  # prints the line, too long for a page
        steps = (*typed, *filter(None, (self.advice,)))
        follow = (f"then {step}" for step in steps[1:])
        more = ("for the lines to type: clusterctl doctor --fix",) if self.ways else ()
        return "\n".join((*steps[:1], *follow, *self.instead, *more))

    def at(self, host: str) -> Remedy:
        """With the host's name, quoted, for each HOST."""
        if not host:
            return self

        def named(text: str) -> str:
            return _HOST.sub(lambda _: shlex.quote(host), text)

        return msgspec.structs.replace(
            self,
            commands=tuple(map(named, self.commands)),
            advice=named(self.advice),
            instead=tuple(map(named, self.instead)),
        )


Fix = str | Remedy
"""Plain text is for a person; its further lines are other ways."""


def remedy(fix: Fix) -> Remedy:
    if isinstance(fix, Remedy):
        return fix
    first, *others = fix.splitlines() or [""]
    return Remedy(advice=first, instead=tuple(others))


_UNFIT = "a name that the host told cannot be put into a command: look at it there"


def shell(
    *templates: str,
    values: tuple[str | int | None, ...] = (),
    advice: str = "",
    instead: tuple[str, ...] = (),
    where: Where = "host",
    looks: bool = False,
    reboots: bool = False,
    until_boot: bool = False,
) -> Remedy:
    """Commands whose ``{}`` are filled with ``values``, quoted, over all templates in order.

    A value of None is one that the host told and that does not look like what it must be: then there is no
    command. Nor for one that holds HOST, which `Remedy.at` would take for the place of the host's name.
    """
    if any(value is None or _HOST.search(str(value)) for value in values):
        return Remedy(advice=advice or _UNFIT, where=where)
    quoted = iter([shlex.quote(str(value)) for value in values])
    commands = tuple(re.sub(r"\{\}", lambda _: next(quoted), template) for template in templates)
    return Remedy(
        commands=commands,
        advice=advice,
        instead=instead,
        where=where,
        needs_root=any(re.search(r"(^|[|&;] *)sudo ", template) for template in templates),
        looks=looks,
        reboots=reboots,
        until_boot=until_boot,
    )


def at_launch(setting: str) -> Remedy:
    """A variable of every rank."""
    return Remedy(advice=f"launch with --env {shlex.quote(setting)}", where="launch")


def by_hand(advice: str) -> Remedy:
    """What a person does on this machine: a line of the hostfile, of the profile."""
    return Remedy(advice=advice, where="here")


def safe(*actions: SafeAction, instead: tuple[str, ...] = ()) -> Remedy:
    """What a person may type, and `doctor --apply` does when it is told to."""
    return Remedy(
        commands=tuple(shlex.join(action.words) for action in actions),
        actions=actions,
        where=actions[0].where,
        instead=instead,
    )


_APT = ("debian", "ubuntu", "mint")
_DNF = ("red hat", "rocky", "alma", "centos", "fedora", "amazon")


def install(os_release: str, *, apt: str, dnf: str) -> Remedy:
    """A package of the system, by the name of the distribution; "" where it has none of it."""
    name = os_release.lower()
    for systems, line, wanted in ((_APT, "sudo apt-get install -y", apt), (_DNF, "sudo dnf install -y", dnf)):
        if wanted and any(each in name for each in systems):
            return shell(f"{line} {wanted}")
    return Remedy(advice=f"install {apt or dnf} with the package manager of the system")


def ifname(text: str) -> str | None:
    """The kernel forbids little in a name; what nobody uses reaches no command."""
    return text if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,14}", text) else None


def account(text: str) -> str | None:
    return text if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}", text) else None


def hostname(text: str) -> str | None:
    return text if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", text) else None


def path(text: str) -> str | None:
    """An absolute path; one that leads out of where it seems to be is none."""
    plain = text.startswith("/") and text.isprintable() and len(text) < 1024
    return text if plain and ".." not in text.split("/") else None


def address(text: str) -> str | None:
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def subnet(text: str) -> str | None:
    try:
        return str(ip_network(text))
    except ValueError:
        return None


def unit(text: str) -> str | None:
    """A systemd unit."""
    return text if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@:\\-]{0,199}", text) else None


def package(text: str) -> str | None:
    """What pip is asked for: a name with a version or a range of them."""
    return text if re.fullmatch(r"[A-Za-z0-9_.-]+([=<>!~]=?[A-Za-z0-9_.+*=<>!~, -]*)?", text) else None

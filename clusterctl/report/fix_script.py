"""What would cure the hosts, as a script to read and to run: a section for each, comments for the rest."""

from __future__ import annotations

import shlex
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from clusterctl.checks.evaluate import Report
from clusterctl.checks.finding import Cure
from clusterctl.checks.remedy import Remedy
from clusterctl.inventory.fold import fold
from clusterctl.inventory.model import Inventory
from clusterctl.report.harmless import harmless

_WIDTH = 100
_FAMILIES = ("hostfile", "ssh", "env", "os", "host", "time", "name", "ip", "net", "ib", "sw", "gpu")
"""In the order of the cure: who cannot log in, or write, needs no driver yet."""

_FUNCTIONS = """\
chosen=("$@")
is_chosen() {
    local each
    [ "${#chosen[@]}" -eq 0 ] && return 0
    for each in "${chosen[@]}"; do [ "$each" = "$1" ] && return 0; done
    return 1
}
on() {  # the lines that follow, on these hosts, one after another; a password is asked for on the terminal
    local lines host
    lines=$(grep -v '^#')
    for host in "$@"; do
        is_chosen "$host" || continue
        printf '== %s\\n' "$host"
        if { : </dev/tty; } 2>/dev/null; then
            SSH -t -- "$host" "$lines" </dev/tty
        else
            SSH -- "$host" "$lines" </dev/null
        fi || printf 'not all of it worked on %s\\n' "$host" >&2
    done
}
here() {  # the lines that follow, on this machine
    local lines
    lines=$(grep -v '^#')
    [ "${#chosen[@]}" -gt 0 ] || bash -c "$lines"
}
"""


def script(report: Report, inventory: Inventory, taken: str, ssh: Sequence[str] = ()) -> str:
    """All of it; "" where nothing is to be cured. ``ssh`` are options with which `ssh` reaches the hosts."""
    if not report.cures:
        return ""
    cures = sorted(report.cures, key=_place)
    sick = [host for host in inventory.names if any(cure.host == host for cure in cures)]
    lines = [
        "#!/usr/bin/env bash",
        *_comment(
            f"clusterctl doctor, {taken}: what would cure {len(sick)} of {len(inventory.hosts)} hosts of "
            f"{inventory.source}. Read it before you run it. `bash` with this file goes to all of them, with "
            "names of hosts behind it to those only. [root] asks sudo. Behind # is what a person does: "
            "reboots, a look at the cause, other ways. Then: clusterctl doctor"
        ),
        "",
        _FUNCTIONS.replace("SSH", shlex.join(["ssh", *ssh])),
    ]
    lines += _here([cure for cure in cures if cure.remedy.where != "host" or not cure.host])
    own: defaultdict[str, list[Cure]] = defaultdict(list)
    for cure in cures:
        if cure.host and cure.remedy.where == "host":
            own[cure.host].append(cure)
    alike: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for host in inventory.names:
        if host in own:
            alike[tuple(_block(own[host]))].append(host)
    for block, hosts in alike.items():
        lines += _section(hosts, block)
    return "\n".join(lines).rstrip() + "\n"


def _place(cure: Cure) -> int:
    family = cure.code.partition(".")[0]
    return _FAMILIES.index(family) if family in _FAMILIES else len(_FAMILIES)


def _section(hosts: Sequence[str], block: Sequence[str]) -> Iterator[str]:
    if any(line and not line.startswith("#") for line in block):
        yield f"on {shlex.join(hosts)} <<'END'"
        yield from block
        yield "END"
    else:
        yield from _comment(f"{fold(hosts)}: nothing to run, but")
        yield from block
    yield ""


def _here(cures: Sequence[Cure]) -> Iterator[str]:
    """What is done on this machine, or given to a launch: once, whichever host it is for."""
    if not cures:
        return
    merged: defaultdict[tuple[str, Remedy], list[Cure]] = defaultdict(list)
    for cure in cures:
        merged[cure.code, cure.remedy].append(cure)
    block: list[str] = []
    for (_, _), alike in merged.items():
        hosts = [cure.host for cure in alike if cure.host]
        block += [*_of_one(alike[0], ", ".join(hosts)), ""]
    if any(line and not line.startswith("#") for line in block):
        yield from ("here <<'END'", *block[:-1], "END", "")
    else:
        yield from block


def _block(cures: Sequence[Cure]) -> Iterator[str]:
    """The cures of one host, reboots last; what is the same twice stands once."""
    typed: set[tuple[str, ...]] = set()
    for cure in sorted(cures, key=lambda each: each.remedy.reboots):
        again = bool(cure.remedy.commands) and cure.remedy.commands in typed
        if typed:
            yield ""
        typed.add(cure.remedy.commands)
        yield from _of_one(cure, again=again)


def _of_one(cure: Cure, hosts: str = "", *, again: bool = False) -> Iterator[str]:
    remedy = cure.remedy
    expected = f"; expected: {cure.expected}" if cure.expected else ""
    marks = [
        mark
        for mark, is_so in (
            ("root", remedy.needs_root),
            ("until the next boot", remedy.until_boot and not remedy.looks),
        )
        if is_so and remedy.commands
    ]
    title = f"{cure.code}{f' ({hosts})' if hosts else ''}: {cure.observed}{expected}"
    yield from _comment(title + (f" [{', '.join(marks)}]" if marks else ""))
    if again:
        yield "#   as above"
    elif remedy.reboots:
        yield from _indented("when nobody needs the host", remedy.commands)
    elif remedy.looks:
        yield from _indented("look", remedy.commands)
    else:
        yield from remedy.commands
    yield from _indented("by hand" if not remedy.commands else "then", filter(None, (remedy.advice,)))
    yield from _indented("or", (*remedy.instead, *remedy.ways))


def _indented(label: str, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield f"#   {label}: {_one_line(line)}"


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(_one_line(text), _WIDTH - 2, break_on_hyphens=False):
        yield f"# {line}"


def _one_line(text: str) -> str:
    return " ".join(harmless(text).split())

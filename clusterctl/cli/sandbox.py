"""`clusterctl sandbox`: virtual hosts on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli import help as help_
from clusterctl.settings import SANDBOX

if TYPE_CHECKING:
    from clusterctl.sandbox import Sandbox

app = typer.Typer(
    help="Virtual hosts on this machine, each with a real SSH server.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

_Name = Annotated[
    str, typer.Option("--name", metavar="NAME", help="Which sandbox; several may run side by side.")
]
_Which = Annotated[
    str | None,
    typer.Option(
        "--name", metavar="NAME", help="Which sandbox (default: the one named so, or the only one)."
    ),
]
_AS_IS = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
"""Everything after HOST belongs to the command that is to run there."""


@app.command(
    short_help="Bring virtual hosts up.",
    cls=help_.command("clusterctl sandbox up --nodes 4 --slots 2", "clusterctl sandbox up --slots 3,1,1"),
)
def up(
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", "-n", metavar="N", help=f"How many hosts (default {SANDBOX.nodes})."),
    ] = None,
    slots: Annotated[
        str, typer.Option("--slots", metavar="N,...", help="Slots of each host: 2, or one for each: 3,1.")
    ] = "",
    name: _Name = SANDBOX.name,
    loopback: Annotated[
        bool, typer.Option("--loopback", help="Without namespaces: sshd on 127.0.0.2 and up. A last resort.")
    ] = False,
) -> None:
    """Bring virtual hosts up and write a hostfile for them.

    Does nothing when they run already. A sandbox is never resized: take it down first.
    """
    import time

    from clusterctl.cli import screen
    from clusterctl.sandbox import Sandbox
    from clusterctl.sandbox.lifecycle import find
    from clusterctl.sandbox.spec import numbered

    began = time.monotonic()
    running = find(name)
    if running is not None and nodes is None and not slots and (not loopback or running.state.simulated):
        _show(running, "runs already")
        return
    counts = _slot_counts(slots)
    usual = len(counts) if len(counts) > 1 else SANDBOX.nodes
    hosts = numbered(usual if nodes is None else nodes, counts)
    with screen.err().status(f"starting {len(hosts)} hosts"):
        box = Sandbox.create(name, hosts, simulated=loopback)
    same = running is not None and running.state.holder == box.state.holder
    _show(box, "runs already" if same else f"up in {time.monotonic() - began:.1f} s")


@app.command(
    short_help="End and remove them.",
    cls=help_.command("clusterctl sandbox down", "clusterctl sandbox down --all"),
)
def down(
    name: _Name = SANDBOX.name,
    everything: Annotated[bool, typer.Option("--all", help="Every sandbox.")] = False,
) -> None:
    """End every process of the hosts and remove their files, their home directories included."""
    from rich import print as say

    from clusterctl.cli import screen
    from clusterctl.sandbox.lifecycle import take_down
    from clusterctl.sandbox.state import names

    wanted = names(None) if everything else (name,)
    for each in wanted:
        with screen.err().status(f"ending sandbox {each}"):
            found = take_down(each)
        say(f"Sandbox [bold]{each}[/]: {'gone, nothing left' if found else 'there is none'}.")
    if not wanted:
        say("There is no sandbox.")


@app.command(short_help="Which there are.", cls=help_.command("clusterctl sandbox status"))
def status() -> None:
    """Which sandboxes there are, and whether each host lives and accepts SSH."""
    from rich import print as say

    from clusterctl.sandbox.lifecycle import find
    from clusterctl.sandbox.state import names

    found = names(None)
    for name in found:
        box = find(name)
        if box is None:
            say(f"Sandbox [bold]{name}[/] [yellow]does not run[/]: left from a crash or a reboot.")
            say(f"Next: [cyan]clusterctl sandbox up{_option(name)}[/]  or  [cyan]down{_option(name)}[/]")
        else:
            _show(box, "running")
    if not found:
        say("There is no sandbox.\nNext: [cyan]clusterctl sandbox up[/]")


@app.command(
    context_settings=_AS_IS,
    short_help="Log in to a host over SSH.",
    cls=help_.command("clusterctl sandbox ssh node1", "clusterctl sandbox ssh node1 hostname"),
)
def ssh(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST [CMD [ARGS]...]", help="A host of the sandbox.")],
    name: _Which = None,
) -> None:
    """Log in to a host over SSH, or run a command there: `clusterctl sandbox ssh node1 hostname`."""
    import os
    import shutil

    from clusterctl.errors import ClusterctlError

    box = _running(name)
    target = box.host(host).name
    program = shutil.which("ssh")
    if program is None:
        raise ClusterctlError("`ssh` was not found on this machine", hint="install openssh-client")
    os.execv(program, ["ssh", "-F", str(box.ssh_config), target, *_command(context)])


@app.command(
    name="exec",
    context_settings=_AS_IS,
    short_help="Run a command in a host's namespaces.",
    cls=help_.command("clusterctl sandbox exec node1 -- ps aux", "clusterctl sandbox exec all -- ip addr"),
)
def execute(
    context: typer.Context,
    host: Annotated[
        str, typer.Argument(metavar="HOST -- CMD [ARGS]...", help="A host of the sandbox, or `all`.")
    ],
    name: _Which = None,
) -> None:
    """Run a command in a host's namespaces, also when its SSH server is down: `exec node1 -- ps aux`.

    The exit code is the command's; with `all`, the highest.
    """
    import os
    import subprocess
    import sys

    from clusterctl.errors import UsageError

    box = _running(name)
    argv = _command(context)
    if not argv:
        raise UsageError("no command given", hint="clusterctl sandbox exec node1 -- hostname")
    if host != "all":
        command = box.host(host).command(argv, terminal=os.environ.get("TERM"))
        raise typer.Exit(subprocess.run(command, check=False).returncode)
    worst = 0
    width = max(len(each.name) for each in box.hosts)
    running = [(each, each.popen(argv)) for each in box.hosts]
    for each, process in running:
        output, _ = process.communicate()
        worst = max(worst, process.returncode)
        for line in output.splitlines() or [""]:
            sys.stdout.write(f"{each.name:{width}}  {line}\n")
    raise typer.Exit(worst)


def _running(name: str | None) -> Sandbox:
    from clusterctl.sandbox import Sandbox, running_default

    box = None if name else running_default()
    return box or Sandbox.load(name or SANDBOX.name)


def _command(context: typer.Context) -> list[str]:
    return context.args[1:] if context.args[:1] == ["--"] else context.args


def _show(box: Sandbox, what: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    count = len(box.hosts)
    console.print(f"Sandbox [bold]{box.name}[/] {what}: {count} host{'s' if count > 1 else ''}")
    if box.state.simulated:
        console.print("[yellow]Simulated[/]: on loopback addresses, where network checks mean nothing.")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("host", "address", "slots", "ssh"):
        table.add_column(heading, justify="right" if heading == "slots" else "left")
    shown = box.hosts if count <= _SHOWN else (*box.hosts[: _SHOWN - 1], box.hosts[-1])
    for host in shown:
        if count > _SHOWN and host is box.hosts[-1]:
            table.add_row("[dim]...[/]")
        ready = "[green]ready[/]" if host.accepts_ssh else "[red]no answer[/]"
        table.add_row(host.name, host.address(), str(host.slots), ready)
    console.print(table)
    console.print(f"hostfile  [dim]{box.hostfile}[/]", soft_wrap=True)
    console.print(f"ssh       [dim]ssh -F {box.ssh_config} {box.hosts[0].name}[/]", soft_wrap=True)
    hostfile = "" if box.is_default else f" --hostfile {box.hostfile}"
    console.print(f"Next: [cyan]clusterctl doctor{hostfile}[/]", soft_wrap=True)


_SHOWN = 10


def _option(name: str) -> str:
    return "" if name == SANDBOX.name else f" --name {name}"


def _slot_counts(text: str) -> tuple[int, ...]:
    from clusterctl.errors import UsageError

    try:
        return tuple(int(part) for part in text.split(",")) if text else (1,)
    except ValueError as error:
        raise UsageError(
            f"--slots {text!r} is not a number, nor numbers with commas", hint="--slots 3,1"
        ) from error

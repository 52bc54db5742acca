"""`clusterctl init`: write a hostfile, after asking each host for its GPUs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli import new_file, options
from clusterctl.errors import NoAnswerError, UsageError
from clusterctl.settings import EXEC, SSH, SSH_CONFIG_VARIABLE

if TYPE_CHECKING:
    from clusterctl.ask.exec import Answer


def command(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HOSTS]...", help="Names as for `ssh`: gpu1 alice@gpu2, or 'gpu[1-4]'."),
    ] = None,
    from_ssh_config: Annotated[
        bool, typer.Option("--from-ssh-config", help="Every Host of ssh_config that has no wildcard.")
    ] = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The hostfile to write.")
    ] = Path("hostfile"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
) -> int:
    """Write a hostfile.

    Hosts that do not answer are written as comments, with the reason. Exit code 1 when there are any.
    """
    from clusterctl.ask.exec import run
    from clusterctl.cli import screen
    from clusterctl.cli.progress import Asking
    from clusterctl.transport import connect

    text = ssh_config or os.environ.get(SSH_CONFIG_VARIABLE, "")
    config = Path(text).expanduser() if text else None
    hosts = _wanted(names or [], from_ssh_config, config)
    new_file.check(output, "-o", force=force)
    link = connect(transport, config)
    screen.err().print(f"asking {len(hosts)} host{'' if len(hosts) == 1 else 's'} for GPUs", style="dim")
    try:
        with Asking(hosts) as asking:
            answers = run(link, hosts, ["nvidia-smi", "-L"], timeout=EXEC.timeout, on_answer=asking.answered)
    finally:
        link.close()
    for answer in answers:
        screen.out().print(f"  {_line(answer)}", markup=False)
    missing = [answer for answer in answers if answer.failure is not None]
    for answer in missing:
        if answer.failure is not None:
            screen.complain("error", f"{answer.host}: {answer.failure.message}", answer.failure.hint)
    if len(missing) == len(answers):
        raise NoAnswerError(
            f"no host answered, so {output} was not written", hint="repair what is said above, then try again"
        )
    new_file.write(output, "".join(_line(answer) + "\n" for answer in answers), "-o", force=force)
    config_option = f" --ssh-config {text}" if text else ""
    screen.out().print(
        f"wrote {output}: {len(answers) - len(missing)} of {len(answers)} hosts", markup=False, style="bold"
    )
    where = "" if output == Path("hostfile") else f" -H {output}"
    screen.out().print(f"Next: clusterctl doctor{where}{config_option}", markup=False)
    return 1 if missing else 0


def _wanted(names: list[str], from_ssh_config: bool, config: Path | None) -> tuple[str, ...]:
    from clusterctl.inventory.fold import expand

    hosts = [host for name in names for host in expand(name)]
    if from_ssh_config:
        hosts += _distinct_hosts(config)
    bad = [host for host in hosts if host.split() != [host] or host.startswith(("#", "-"))]
    if bad:
        raise UsageError(f"{bad[0]!r} cannot be a host name", hint="write names as `ssh` takes them")
    if not hosts:
        raise UsageError(
            "no hosts named", hint="clusterctl init gpu1 gpu2, or clusterctl init --from-ssh-config"
        )
    return tuple(dict.fromkeys(hosts))


def _distinct_hosts(config: Path | None) -> list[str]:
    """The names of ssh_config, without second names for a machine that has been named already."""
    from clusterctl.cli.ssh_hosts import named_hosts
    from clusterctl.transport.endpoint import Endpoint
    from clusterctl.transport.resolve import Endpoints

    first: dict[object, str] = {}
    endpoints = Endpoints(config)
    for name in named_hosts(config):
        found = endpoints.get(name, time.monotonic() + SSH.connect_timeout)
        # Behind different jump hosts, one address may be several machines.
        key = (found.hostname, found.port, found.jumps) if isinstance(found, Endpoint) else name
        first.setdefault(key, name)
    return list(first.values())


def _line(answer: Answer) -> str:
    """One line of the hostfile: ``gpu1 slots=8  # 8 x NVIDIA A100``."""
    if answer.failure is not None:
        return f"# {answer.host} slots=1  ({' '.join(answer.failure.message.split())})"
    gpus = [
        line.partition(": ")[2].partition(" (UUID")[0]
        for line in answer.stdout.decode("utf-8", "replace").splitlines()
        if line.startswith("GPU ")
    ]
    if gpus:
        kinds = ", ".join(f"{gpus.count(kind)} x {kind}" for kind in dict.fromkeys(gpus))
        return f"{answer.host} slots={len(gpus)}  # {kinds}"
    if answer.exit_code in (0, 127):
        return f"{answer.host} slots=1  # no GPU: CPU only"
    said = (answer.stderr or answer.stdout).decode("utf-8", "replace").split()
    return (
        f"{answer.host} slots=1  # CPU only: nvidia-smi ended with {answer.exit_code}: {' '.join(said)[:100]}"
    )

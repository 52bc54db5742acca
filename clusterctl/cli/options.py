"""Options that several verbs share, so that they read and mean the same everywhere."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import typer

from clusterctl.errors import UsageError


def not_empty(context: typer.Context, parameter: typer.CallbackParam, value: str) -> str:
    """An option given as "" is a shell variable that was never set: to go on without it would take other
    hosts, or another setting, than were meant."""
    source = context.get_parameter_source(parameter.name or "")
    if value == "" and source is not None and source.name == "COMMANDLINE":
        raise UsageError(f"{parameter.opts[0]} was given an empty text", hint="is a shell variable not set?")
    return value


Hostfile = Annotated[
    str,
    typer.Option(
        "--hostfile",
        "-H",
        metavar="FILE",
        callback=not_empty,
        help="Hosts and their slots. Default: $CLUSTERCTL_HOSTFILE, ./hostfile, /job/hostfile, "
        "the running sandbox.",
    ),
]
Cluster = Annotated[
    str,
    typer.Option(
        "--cluster",
        "-c",
        metavar="NAME",
        callback=not_empty,
        help="Its hostfile, profile, engine and variables: see `clusterctl clusters`.",
    ),
]
Include = Annotated[
    str,
    typer.Option(
        "--include",
        "-i",
        metavar="HOSTS",
        callback=not_empty,
        help="Only these: gpu1@gpu2:0,1 or gpu[1-4] (slots after :).",
    ),
]
Exclude = Annotated[
    str,
    typer.Option(
        "--exclude", "-e", metavar="HOSTS", callback=not_empty, help="All but these, written like --include."
    ),
]
Nodes = Annotated[
    int | None, typer.Option("--nodes", "-n", metavar="N", help="The first N hosts (of those selected).")
]
GpusPerNode = Annotated[
    int | None,
    typer.Option("--gpus-per-node", metavar="N", help="The first N slots of each host."),
]
SshConfig = Annotated[
    str,
    typer.Option(
        "--ssh-config",
        metavar="FILE",
        callback=not_empty,
        help="Instead of ~/.ssh/config; also $CLUSTERCTL_SSH_CONFIG. A sandbox brings its own.",
    ),
]
Transport = Annotated[
    Literal["fabric", "openssh"],
    typer.Option(
        "--transport", help="openssh: one `ssh` per host, for host certificates, security keys and GSSAPI."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
Profile = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="FILE",
        callback=not_empty,
        help="A YAML file, or the shipped cpu, cuda12, cuda13.",
    ),
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="K=V", help="A variable for all hosts; K alone copies yours. Repeatable."),
]

EnvFile = Annotated[
    str,
    typer.Option(
        "--env-file", metavar="FILE", callback=not_empty, help="KEY=VALUE lines, weaker than --env."
    ),
]


def _all_for_minus_one(value: int | None) -> int | None:
    """DeepSpeed's word for all, which scripts pass on."""
    return None if value == -1 else value


# Of an option with several long names help shows the first; the others are those of other launchers.
LaunchNodes = Annotated[
    int | None,
    typer.Option(
        *("--nodes", "-n", "--num-nodes", "--nnodes"),
        metavar="N",
        callback=_all_for_minus_one,
        help="The first N hosts (of those selected).",
    ),
]
LaunchGpusPerNode = Annotated[
    int | None,
    typer.Option(
        *("--gpus-per-node", "--num-gpus", "--num-accelerators", "--nproc-per-node"),
        metavar="N",
        callback=_all_for_minus_one,
        help="The first N slots of each host.",
    ),
]
MasterAddr = Annotated[
    str,
    typer.Option(
        "--master-addr",
        metavar="ADDRESS",
        callback=not_empty,
        help="Of rank 0's host. Default: its address in the network that was chosen.",
    ),
]
MasterPort = Annotated[
    int | None,
    typer.Option("--master-port", metavar="PORT", help="Default: 29500, or the next free."),
]
SshPort = Annotated[
    int | None,
    typer.Option("--ssh-port", metavar="PORT", help="For every host, as in ssh -p."),
]
VenvScript = Annotated[
    str,
    typer.Option(
        "--venv-script",
        metavar="FILE",
        callback=not_empty,
        help="Activates a virtual environment on every host: /opt/venv/bin/activate.",
    ),
]
HomeCaches = Annotated[
    bool,
    typer.Option(
        "--home-caches", help="Compiled kernels go to the home directory, also where hosts share it."
    ),
]
Launcher = Annotated[str, typer.Option("--launcher", metavar="pdsh", callback=not_empty, hidden=True)]
# launch goes to the hosts in any case.
ForceMulti = Annotated[bool, typer.Option("--force-multi", hidden=True)]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_or_off(text: str, option: str) -> float:
    """As `seconds`, and 0 for ``0``."""
    return 0.0 if re.fullmatch(r"0+(\.0+)?s?", text) else seconds(text, option)


def seconds(text: str, option: str) -> float:
    """Seconds of a duration such as ``5s``, ``10m``, ``1h30m``; a bare number is seconds.

    Raises UsageError, naming ``option``, for anything else and for durations that are not above zero.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        parts = [(text, "s")]
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if total <= 0 or "".join(number + unit for number, unit in parts) not in (text, f"{text}s"):
        raise UsageError(f"{option}: invalid duration {text!r}", hint="write 90s, 10m or 2h")
    return total


def moment(text: str, option: str, now: float) -> float:
    """Seconds of the clock on the wall: of ``10m``, so long before ``now``; of ``14:30``, the last
    time it was that; of an ISO 8601 date or time, which is local where it does not say.

    Raises UsageError, naming ``option``.
    """
    from datetime import datetime, timedelta

    if re.fullmatch(r"[\d.]+(ms|s|m|h|d|)([\d.]+(ms|s|m|h))*", text):
        return now - seconds(text, option)
    try:
        if re.fullmatch(r"\d{1,2}:\d\d(:\d\d(\.\d+)?)?", text):
            here = datetime.fromtimestamp(now).astimezone()
            clock = datetime.strptime(text.partition(".")[0], "%H:%M:%S" if text.count(":") == 2 else "%H:%M")
            found = here.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0)
            return (found if found <= here else found - timedelta(days=1)).timestamp()
        whole = re.sub(r"\.(\d{1,6})", lambda found: f".{found[1]:0<6}", text.replace("Z", "+00:00"))
        return datetime.fromisoformat(whole).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{option}: {text!r} is no time", hint="write 10m, 14:30 or 2026-01-31T14:30:00"
        ) from None

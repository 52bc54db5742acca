"""One host's variables as shell lines, for people who start by hand."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable

import msgspec

from clusterctl.facts.model import Facts
from clusterctl.inventory.model import Inventory
from clusterctl.network.model import Network, Setting
from clusterctl.plan import activation
from clusterctl.plan.variables import HIDDEN, is_secret, shown

SCHEMA = "clusterctl.env/1"
_COLUMN = 60


class Export(msgspec.Struct, frozen=True):
    """``origin`` says who decided the value. ``value`` None: the variable is to be unset; of a secret it is
    hidden."""

    name: str
    value: str | None
    origin: str


def exports(
    inventory: Inventory,
    network: Network,
    facts: Facts,
    master_port: int,
    *,
    settings: Iterable[Setting] = (),
    profile: str = "",
) -> tuple[Export, ...]:
    """Every variable that the host of ``facts`` needs to take part in a run over all hosts of ``inventory``.

    The host must be covered by ``network``. ``settings`` are the user's for it, ``profile`` names the one
    whose activation line it ran.
    """
    host = facts.host
    chosen = network.of(host)
    assert chosen is not None, host
    rank = inventory.names.index(host)
    users = {each.name: each for each in settings}
    unset = activation.without(activation.removed(facts), users.values())
    port = users.pop("MASTER_PORT", None)
    by = port.origin if port else "clusterctl: outside the range the OS chooses from"
    return (
        *(Export(name, None, f"profile {profile}: activate") for name in unset),
        *(Export(name, shown(each), each.origin) for name, each in users.items() if name not in chosen.env),
        *(Export(name, value, chosen.origins.get(name, "")) for name, value in chosen.env.items()),
        Export("MASTER_PORT", str(master_port), by),
        Export("NNODES", str(len(inventory.hosts)), inventory.source),
        Export("NODE_RANK", str(rank), f"{inventory.source}: position of {host}"),
        Export(
            "NPROC_PER_NODE", str(len(inventory.hosts[rank].slots)), f"{inventory.source}: slots of {host}"
        ),
    )


def shell(host: str, variables: tuple[Export, ...]) -> str:
    """``export K=V`` lines that any POSIX shell reads, each with its origin, and how to use them."""
    lines = [f"# {host}: eval these lines there, then start by hand:"]
    lines.append(
        "#   torchrun --nnodes=$NNODES --node-rank=$NODE_RANK --nproc-per-node=$NPROC_PER_NODE \\\n"
        "#     --master-addr=$MASTER_ADDR --master-port=$MASTER_PORT train.py"
    )
    settings = [(_line(each), each.origin) for each in variables]
    width = min(_COLUMN, max(len(text) for text, _ in settings))
    lines += [f"{text:<{width}}  # {origin}" for text, origin in settings]
    return "\n".join(lines) + "\n"


def _line(each: Export) -> str:
    if each.value == HIDDEN and is_secret(each.name):
        return f"# {each.name} is not shown: export it there yourself"
    return f"unset {each.name}" if each.value is None else f"export {each.name}={_quoted(each.value)}"


def _quoted(value: str) -> str:
    """As shlex does, and also where zsh would take ``=name`` for a command's path."""
    return f"'{value}'" if value.startswith("=") and shlex.quote(value) == value else shlex.quote(value)


def encode(variables: dict[str, tuple[Export, ...]]) -> str:
    """Host -> variable -> value and origin, as one JSON object."""
    document = {
        "schema": SCHEMA,
        "hosts": {
            host: {each.name: {"value": each.value, "origin": each.origin} for each in of_host}
            for host, of_host in variables.items()
        },
    }
    return json.dumps(document, indent=2)

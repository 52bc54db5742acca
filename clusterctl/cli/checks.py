"""`clusterctl checks`: what doctor looks at. Asks nobody."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    code: Annotated[
        str, typer.Argument(metavar="[CODE]", help="One check, as net.mtu, or a family, as gpu.")
    ] = "",
) -> int:
    """List the checks of doctor, or show one in full."""
    from clusterctl.checks.families import RULES
    from clusterctl.checks.selection import read
    from clusterctl.cli import screen
    from clusterctl.report import checks

    if code:
        read([code])
    rule = next((each for each in RULES if each.code == code), None)
    screen.out().print(checks.page(rule) if rule else checks.listing(code))
    return 0

"""What a profile's activation line did on a host, as settings of that host's run. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from clusterctl.facts.model import Facts
from clusterctl.plan.model import Setting


def settings(facts: Facts, origin: str) -> tuple[Setting, ...]:
    """Every variable that the activation line has set on this host.

    PYTHON* is allowed here, as it comes from the very host whose interpreter it steers. That interpreter's
    own directory, with the tools installed beside it, is on the PATH that comes out.
    """
    if facts.activation is None:
        return ()
    variables = dict(facts.activation.variables)
    beside = facts.python.executable.rpartition("/")[0]
    if "PATH" in variables and beside and beside not in variables["PATH"].split(":"):
        variables["PATH"] = f"{beside}:{variables['PATH']}"
    return tuple(Setting(name, value, origin) for name, value in variables.items())


def removed(facts: Facts) -> tuple[str, ...]:
    """Variables of the host's sessions that the line has unset."""
    return facts.activation.removed if facts.activation else ()


def without(names: Iterable[str], settings: Iterable[Setting]) -> tuple[str, ...]:
    """``names`` that no setting gives a value after all."""
    given = {setting.name for setting in settings}
    return tuple(name for name in names if name not in given)

"""What the DeepSpeed of a host accepts in its config, in its own words."""

from __future__ import annotations

from importlib import resources

import msgspec

from clusterctl.advise.lint.schema import Schema, decode
from clusterctl.ask import exec as command
from clusterctl.settings import LINT
from clusterctl.transport.protocol import Transport

_NOT_FROM_HERE = "import sys\nif '' in sys.path:\n    sys.path.remove('')\n"
"""No file of the folder that the session is in stands in for a module."""


def of_host(transport: Transport, host: str, python: str) -> Schema | None:
    """Told by ``python`` there, the interpreter that will train; None where it does not say."""
    program = (resources.files("clusterctl") / "node" / "deepspeed_schema.py").read_text(encoding="utf-8")
    # Its accelerator decides nothing here, and looking for GPUs takes long.
    argv = ("env", "DS_ACCELERATOR=cpu", python, "-c", _NOT_FROM_HERE + program)
    [answer] = command.run(transport, (host,), argv, timeout=LINT.schema_timeout)
    if answer.exit_code or answer.truncated:
        return None
    try:
        return decode(answer.stdout)
    except msgspec.MsgspecError:
        return None

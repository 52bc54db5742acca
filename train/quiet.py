"""Silence for messages of libraries that this program replaces by its own or that nobody here can act on."""

from __future__ import annotations

import logging
import warnings


def quieten() -> None:
    """To be called before deepspeed is imported: it speaks while it loads."""
    # The device is in the run's own header.
    logging.getLogger("DeepSpeed").addFilter(
        lambda record: "Setting accelerator to" not in record.getMessage()
    )
    # DeepSpeed calls names that torch has renamed.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    # On CPUs bitsandbytes asks for a kernel from the hub, and does without.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

"""What tests on hosts need of the place they are run in."""

from __future__ import annotations

from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems() -> None:
    """Hosts with a /tmp of their own, or a full one, find neither this checkout nor its .venv there."""
    if _ROOT.is_relative_to("/tmp"):
        raise pytest.UsageError(f"tests on hosts need a checkout outside /tmp; this one is {_ROOT}")

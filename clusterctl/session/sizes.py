"""Sizes as they are typed, such as ``500MB``."""

from __future__ import annotations

import re

from clusterctl.errors import UsageError
from clusterctl.settings import RUN, SYNC

_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


def sync_limit(text: str) -> int:
    """Bytes that may be copied to the hosts; empty for the default. Raises UsageError."""
    return _bytes(text, "--sync-limit") if text else SYNC.max_bytes


def log_limit(text: str) -> int:
    """Bytes of each log that are kept; empty for the default, 0 for all. Raises UsageError."""
    if not text:
        return RUN.log_limit
    return 0 if re.fullmatch("0(MB|GB)?", text, re.IGNORECASE) else _bytes(text, "--log-limit")


def _bytes(text: str, option: str) -> int:
    match = re.fullmatch(r"([1-9]\d{0,8})\s*(MB|GB|TB)", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"{option} {text} is not a size", hint=f"{option} 500MB, {option} 2GB")
    return int(match[1]) * _UNITS[match[2].upper()]

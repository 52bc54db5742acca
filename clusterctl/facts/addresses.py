"""Addresses and networks from text, each parsed once: hosts are compared by theirs again and again."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

_KEPT = 1 << 16

ip_address = lru_cache(_KEPT)(ipaddress.ip_address)
ip_network = lru_cache(_KEPT)(ipaddress.ip_network)

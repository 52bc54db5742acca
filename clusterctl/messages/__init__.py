"""What passes between the controller and a node, as types. Pure.

A node is a strange machine: whatever it sends is decoded here, at the border, into one of these values or
into a `Garbled`, which costs that host and never the run. The node's side of the same messages is plain
dictionaries (standard library only); `tests/test_messages_contract.py` holds the two together.
"""

from __future__ import annotations

"""What the text of an exception says: that memory was short, that a peer is gone, or neither. Pure.

The texts are those of torch's c10d, gloo, NCCL and Python's own sockets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from clusterctl.messages.events import RankError

_PEER_TYPES = (
    "ConnectionResetError",
    "ConnectionRefusedError",
    "ConnectionAbortedError",
    "BrokenPipeError",
    "torch.distributed.DistBackendError",
    "torch.distributed.DistNetworkError",
    "torch.distributed.DistStoreError",
)
_PEER_SIGNS = (
    "connection reset",
    "closed by peer",
    "connection refused",
    "connection was likely closed",
    "connection timed out",
    "broken pipe",
    "no route to host",
    "socket closed",
    "socket timeout",
    "recvvalue",
    "recvvector",
    "recvbytes failed",
    "sendbytes failed",
    "failed to recv",
    "failed to send",
    "remote process exited",
    "ncclremoteerror",
    "nccl error",
    "nccl communicator was aborted",
    "collective operation timeout",
    "gloo/transport",
    "connectfullmesh",
    "application timeout caused pair closure",
    "monitoredbarrier",
    "timed out waiting",
    "operation timed out",
    "wait timeout after",
    "barrier timeout after",
    "waiting for clients",
    "the client socket has timed out",
    "the client socket has failed to connect",
)
_OWN_SIGNS = (
    "address already in use",
    "eaddrinuse",
    "failed to bind",
    "failed to listen",
    "getaddrinfo",
    "name or service not known",
    "unhandled cuda error",
    "cuda failure",
    "invalid usage",
    "duplicate gpu",
)
_OWN_MODULES = (
    "subprocess",
    "urllib",
    "urllib3",
    "requests",
    "httpx",
    "httpcore",
    "aiohttp",
    "botocore",
    "huggingface_hub",
    "http",
)
_MEMORY_SIGNS = ("out of memory", "outofmemoryerror", "cannot allocate memory", "memoryerror")
_TYPE = re.compile(r"[A-Za-z_][\w.]*")


def is_memory(text: str) -> bool:
    """Whether memory was short, of the host or of a GPU."""
    return _says(text, _MEMORY_SIGNS)


def blames_a_peer(error: RankError) -> bool | None:
    """Whether all that was raised says a peer is gone; None where one part of the chain says so and another
    does not: a victim's cleanup may fail, and so may a culprit's."""
    verdicts = {_one(text) for text in (f"{error.type}: {error.message}", *_chain(error.traceback))}
    return verdicts.pop() if len(verdicts) == 1 else None


def last_sentence(message: str) -> str:
    """The first line that says something, with what a process of the script's had raised, whose traceback is
    part of the message."""
    first = next((line.strip() for line in message.splitlines() if line.strip()), "")
    _, found, trace = message.rpartition("Traceback (most recent call last):\n")
    raised = next((line for line in trace.splitlines() if line and not line[0].isspace()), "")
    return f"{first.rstrip('.:')}: {raised.strip()}" if found and raised else first


def _chain(traceback: str) -> list[str]:
    """``Type: message`` of each exception in the text of a traceback: its lines in the first column."""
    parts = re.split(r"^Traceback \(most recent call last\):$", traceback, flags=re.MULTILINE)[1:]
    found = []
    for part in parts:
        lines = [line for line in part.splitlines() if line and not line[0].isspace()]
        said = [line for line in lines if not line.startswith(("The above exception", "During handling"))]
        if said and _TYPE.match(said[0]):
            found.append("\n".join(said))
    return found


def _one(text: str) -> bool:
    kind, _, message = (part.strip() for part in text.partition(":"))
    if kind.partition(".")[0] in _OWN_MODULES or _says(text, _OWN_SIGNS) or is_memory(text):
        return False
    if kind == "EOFError":  # of a pipe or socket; one of a file says more
        return not message
    return kind in _PEER_TYPES or _says(text, _PEER_SIGNS)


def _says(text: str, signs: Sequence[str]) -> bool:
    lower = text.lower()
    return any(sign in lower for sign in signs)

"""What a transport is: it opens one channel per host and moves bytes under a deadline. It knows no meaning.

Two transports stand behind this protocol: fabric/paramiko in this process, and the `ssh` binary for what
paramiko cannot do (host CAs, FIDO keys, GSSAPI).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import msgspec

Stage = Literal[
    "resolve",
    "connect",
    "path",
    "hostkey",
    "auth",
    "dropped",
    "banner",
    "exec",
    "python",
    "deadline",
    "decode",
    "ok",
]
Stuck = Literal["", "sent", "answer"]
"""What does not get through while the connection stands: what we send, a part of the answer; "" is nothing,
or not known."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a host gave no channel or no answer: the stage it broke at, a sentence, and the exact cure."""

    host: str
    stage: Stage
    message: str
    hint: str = ""
    seconds: float = 0.0
    open_keys: tuple[str, ...] = ()
    """Private keys of this machine that were not offered because others may read them."""


class Channel(Protocol):
    """One remote command, its input and its output. One thread uses a channel at a time."""

    host: str
    seconds: float
    """How long connecting and authentication took."""

    def fileno(self) -> int:
        """A descriptor that polls readable when bytes wait or the command has ended."""
        ...

    def send(self, data: bytes) -> None:
        """Have ``data`` sent, in order. Raises OSError when the channel is closed or its link is gone.

        Does not wait for the host, unless ``SSH.send_buffer`` bytes are on their way to it already: small
        messages never wait, large transfers go at the host's pace. A host that takes nothing for
        ``SSH.send_timeout`` seconds, and not before the deadline given to `open`, has lost its link: the
        channel ends.
        """
        ...

    @property
    def pending(self) -> int:
        """Bytes given to `send` that the link has not taken yet."""
        ...

    def close_input(self) -> None:
        """The remote command reads end of file after what was sent."""
        ...

    def receive(self) -> tuple[bytes, bytes]:
        """(stdout, stderr) that have arrived; never blocks. Empty with ``ended`` true: all was read."""
        ...

    @property
    def ended(self) -> bool:
        """True once both streams are at their end, or the link is gone."""
        ...

    @property
    def stuck(self) -> Stuck:
        """What did not get through, now or when the link was cut."""
        ...

    @property
    def exit_code(self) -> int | None:
        """The remote command's status; None while it runs and when the link broke before it was told.

        -1 when a signal ended it: the fabric transport is not told which one. Where that matters, let a shell
        run the command (it reports 128+n). The openssh transport tells such an end, and a command's own 255,
        as None: `ssh` has one word for all three.
        """
        ...

    def close(self) -> None:
        """Hang up, and return at once. What was sent goes onto the link first, if the host takes it within
        ``SSH.close_timeout`` seconds; sshd drops what its command has not read by then, so wait for an answer
        to what matters. The remote side sees end of file on its input.
        """
        ...


class Transport(Protocol):
    """Opens channels. ``command`` is one string for the login shell of the host: callers quote it."""

    def open(self, host: str, command: str, deadline: float) -> Channel | Failure:
        """Connect, authenticate and start ``command`` before ``deadline`` (time.monotonic seconds)."""
        ...

    def open_all(
        self, hosts: Sequence[str], command: str, deadline: float
    ) -> Iterator[tuple[str, Channel | Failure]]:
        """`open` on all hosts within the window, as they complete. Ending the iteration drops the queue."""
        ...

    def open_ahead(self, hosts: Sequence[str], command: str, deadline: float) -> None:
        """Begin to open, and return at once: the next `open` of the same command on a host waits for what
        becomes of it. Raises as `open_all`."""
        ...

    def address_of(self, host: str) -> tuple[str, int] | None:
        """Where the sshd of a host that was opened listens: name or address, and port, as its ssh_config
        says. Behind a gateway or a ProxyCommand that is the address seen from there. None before `open`.
        """
        ...

    def keep(self, channel: Channel, command: str) -> None:
        """Take back a channel of this transport on which ``command`` waits to begin anew.

        The next `open` of the same command on that host may return it, without a login. What it said before
        must have been received.
        """
        ...

    def close(self) -> None:
        """Close gateways and everything still open, and end every child process."""
        ...

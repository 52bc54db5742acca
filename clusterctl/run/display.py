"""What the caller wants to see of a run."""

from __future__ import annotations


class Display:
    """All methods may be overridden; none does anything here.

    They are called from the loop that keeps the run alive, so none may wait: not for a terminal, not for a
    pipe that nobody reads.
    """

    def say(self, text: str) -> None:
        """One line about the run itself."""

    def up(self) -> None:
        """Every rank has started."""

    def output(self, host: str, name: str, data: bytes) -> None:
        """Bytes of a log as they arrive, in order for each log."""

    def awaiting(self, text: str) -> None:
        """What is awaited now: "copying code to node1: 3.1 of 12 MB", "3 of 4 ranks up, importing".

        Replaces what was said before; "" ends it, and so does the first output. May be called often.
        """

    def ending(self, text: str) -> None:
        """What the end of the run waits for: "waiting for node2 to end". As `awaiting`, but shown after ranks
        have printed, too."""

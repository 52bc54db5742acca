"""What is wrong with the user's request, said in one sentence with a way out."""

from __future__ import annotations

EXIT_USAGE = 64
EXIT_DIVERGED = 1


class UserError(Exception):
    """A mistake that the user can mend; ends the program with exit code 64 and no traceback.

    Every rank raises it and rank 0 speaks, unless `rank_local` says that only this rank knows.
    """

    def __init__(self, message: str, *, hint: str, rank_local: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.rank_local = rank_local

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}"


class Diverged(Exception):
    """The numbers are no numbers any more: training on could only spoil what is saved. All ranks raise it."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line; of one that says nothing, what it is."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

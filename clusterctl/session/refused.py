"""Why a run was not started, as an error: apart from what decides it, which handling it needs nothing of."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from clusterctl.errors import ClusterctlError
from clusterctl.store.outcome import EXIT_REFUSED

if TYPE_CHECKING:
    from clusterctl.session.examine import Examination


class RefusedError(ClusterctlError):
    """The hosts cannot run this; nothing was started. ``examination`` holds every finding."""

    exit_code: ClassVar[int] = EXIT_REFUSED

    def __init__(self, message: str, *, hint: str, examination: Examination) -> None:
        super().__init__(message, hint=hint)
        self.examination = examination


class NotReadyError(RefusedError):
    """The examination found what would break the run, or no network for all hosts."""

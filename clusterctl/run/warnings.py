"""What watches on the hosts warn of, as lines for the screen. Pure."""

from __future__ import annotations

from clusterctl.messages.events import Warned
from clusterctl.run.actions import Action, Say


class Warnings:
    """One line each. Of what hosts share, such as a file server, only the first host's; what cannot be
    watched is left to `status` and `why`."""

    def __init__(self) -> None:
        self._told: set[tuple[str, bool]] = set()

    def heard(self, host: str, event: Warned) -> list[Action]:
        if event.what == "unseen":
            return []
        if ":/" in event.subject:  # what is mounted from a server
            about = (event.subject, event.over)
            if about in self._told:
                return []
            self._told = {*self._told, about} - {(event.subject, not event.over)}
        return [Say(f"{host}: {event.text}")]

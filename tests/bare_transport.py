"""A transport that only opens channels: what tests put in the place of SSH say how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clusterctl.transport.protocol import Channel, Failure


class BareTransport:
    """All hosts are opened one after another by `open`, which is the test's own."""

    def open(self, host: str, command: str, deadline: float) -> Channel | Failure:
        raise NotImplementedError

    def open_all(
        self, hosts: Sequence[str], command: str, deadline: float
    ) -> Iterator[tuple[str, Channel | Failure]]:
        for host in hosts:
            yield host, self.open(host, command, deadline)

    def open_ahead(self, hosts: Sequence[str], command: str, deadline: float) -> None:
        raise NotImplementedError

    def address_of(self, host: str) -> tuple[str, int] | None:
        return None

    def keep(self, channel: Channel, command: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass

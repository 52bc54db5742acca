"""What a verb works on: which machines, what a profile says of them, how to reach them."""

from __future__ import annotations

import msgspec

from clusterctl.inventory.clusters import NamedCluster
from clusterctl.plan.profile import Profile
from clusterctl.session.hosts import Hosts
from clusterctl.transport import Kind, Transport, connect


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The same for every verb of one `Cluster`. ``profile_name`` is as it was given, for messages."""

    hosts: Hosts
    profile: Profile
    profile_name: str
    venv_script: str = ""
    cluster: NamedCluster | None = None
    transport: Kind

    @property
    def activation(self) -> str:
        """Where the activation lines come from."""
        return "--venv-script" if self.venv_script else f"profile {self.profile_name}: activate"

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts, in the order of their node ranks."""
        return self.hosts.inventory.names

    def connect(self) -> Transport:
        """A way to the hosts, to be closed by who asked for it. Nothing is contacted yet."""
        return connect(self.transport, self.hosts.ssh_config)

"""All that a report is made from: kept, it can be judged again without a single host."""

from __future__ import annotations

import shlex

import msgspec

from clusterctl.ask.facts import CollectedFacts
from clusterctl.inventory.model import HostfileWarning, Inventory
from clusterctl.network.model import Setting
from clusterctl.plan.profile import Profile

Option = tuple[str, str]


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """How somebody named the hosts, for the first line of a report and the command in its last.

    ``reach`` are options that `launch` needs to reach the same hosts in the same way; ``choose`` those that
    select among them. ``ssh_config`` is the one that belongs to the place of the hostfile, as in a sandbox.
    """

    how: str = ""
    warnings: tuple[HostfileWarning, ...] = ()
    hostfile: str = ""
    ssh_config: str = ""
    reach: tuple[Option, ...] = ()
    choose: tuple[Option, ...] = ()

    def launch(self, *, chosen: bool) -> str:
        """The command to start a run with; ``chosen``: with the same selection of hosts."""
        return self._command(self.hostfile, (*self.reach, *(self.choose if chosen else ())))

    def launch_from(self, hostfile: str) -> str:
        """The same for another hostfile, which selects by itself."""
        return self._command(hostfile, (("--ssh-config", self.ssh_config), *self.reach))

    @property
    def ssh(self) -> tuple[str, ...]:
        """Options with which `ssh` reaches the hosts."""
        config = self.ssh_config or dict(self.reach).get("--ssh-config", "")
        return ("-F", config) if config else ()

    def _command(self, hostfile: str, options: tuple[Option, ...]) -> str:
        given = [("-H", hostfile), *options]
        return shlex.join(["clusterctl", "launch", *(word for each in given if each[1] for word in each)])


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """What the hosts said, and what it is held against. ``taken`` is when, in UTC.

    ``settings`` are the user's own for each host that answered. ``quick``: neither `import torch` nor traffic
    was asked for; ``simulated``: all hosts are one machine's loopback.
    """

    taken: str
    inventory: Inventory
    profile: Profile
    answers: CollectedFacts
    settings: dict[str, tuple[Setting, ...]]
    quick: bool = False
    simulated: bool = False
    invocation: Invocation = Invocation()

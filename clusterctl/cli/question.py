"""What `doctor` asks, from its options: which hosts, how they are reached, and how much of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clusterctl.errors import UsageError

if TYPE_CHECKING:
    from clusterctl.checks.selection import Selection
    from clusterctl.facts.lasting import Baseline
    from clusterctl.session.cluster import Cluster
    from clusterctl.session.examine import Examination
    from clusterctl.session.material import Invocation
    from clusterctl.transport import Kind

Option = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Question:
    """The options by their names; ``baseline`` has been read."""

    hostfile: str
    cluster_name: str
    include: str
    exclude: str
    nodes: int | None
    profile: str
    env: tuple[str, ...]
    env_file: str
    transport: Kind
    ssh_config: str
    quick: bool
    all_pairs: bool
    thorough: bool
    selection: Selection
    baseline: Baseline | None

    @property
    def reach(self) -> tuple[Option, ...]:
        """What else is given to reach the hosts as a run would."""
        given = [
            ("--cluster", self.cluster_name),
            ("--ssh-config", self.ssh_config),
            ("--profile", self.profile),
            ("--env-file", self.env_file),
        ]
        given += [("--env", _suggested(setting)) for setting in self.env]
        given += [("--transport", self.transport)] if self.transport != "fabric" else []
        return tuple(each for each in given if each[1])

    @property
    def choose(self) -> tuple[Option, ...]:
        """What selects some of the hosts."""
        given = [("-i", self.include), ("-e", self.exclude), ("--nodes", str(self.nodes or ""))]
        return tuple(each for each in given if each[1])

    def replayed(self, folder: str) -> Examination:
        """What `--capture` has kept in ``folder``. Raises UsageError for options of a question."""
        from clusterctl.session.replay import replay

        flags = {"--quick": self.quick, "--all-pairs": self.all_pairs, "--thorough": self.thorough}
        given = [("HOSTFILE", self.hostfile), *self.reach, *self.choose, *flags.items()]
        if found := next((option for option, value in given if value), ""):
            raise UsageError(
                f"{found} is of no use with --replay: nothing is asked any more",
                hint="--only, --skip, --strict, --json and -v judge and show it otherwise",
            )
        return replay(folder, self.selection, self.baseline)

    def cluster(self) -> Cluster:
        from clusterctl.session.cluster import Cluster

        return Cluster.from_hostfile(
            self.hostfile,
            nodes=self.nodes,
            include=self.include,
            exclude=self.exclude,
            ssh_config=self.ssh_config,
            profile=self.profile,
            transport=self.transport,
            cluster=self.cluster_name,
        )

    def invocation(self, cluster: Cluster) -> Invocation:
        from clusterctl.session.material import Invocation

        return Invocation(
            how=cluster.hosts.how,
            # The hostfile's own are findings.
            warnings=cluster.warnings[len(cluster.hosts.inventory.warnings) :],
            hostfile=self.hostfile,
            ssh_config="" if self.ssh_config else str(cluster.hosts.ssh_config or ""),
            reach=self.reach,
            choose=self.choose,
        )

    def asked(self, cluster: Cluster) -> Examination:
        """Ask the hosts, now."""
        from clusterctl.cli.progress import Asking

        return cluster.examine(
            env=self.env,
            env_file=self.env_file,
            quick=self.quick,
            all_pairs=self.all_pairs,
            thorough=self.thorough,
            selection=self.selection,
            baseline=self.baseline,
            progress=Asking,
        )


def _suggested(setting: str) -> str:
    """As typed, but the value of a secret stays off the screen: launch copies it from the environment."""
    from clusterctl.plan.redaction import Redaction
    from clusterctl.plan.variables import is_secret

    name = setting.partition("=")[0]
    return name if is_secret(name) or Redaction().text(setting) != setting else setting

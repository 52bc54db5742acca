"""What `launch` will do, whole, before it does any of it. Saved as ``plan.json`` with every run."""

from __future__ import annotations

from typing import Literal

import msgspec

from clusterctl.network.model import Setting as Setting

Engine = Literal["torchrun", "deepspeed"]
Start = Literal["torchrun", "deepspeed-pdsh", "deepspeed-no-ssh"]
Track = Literal["", "wandb", "trackio"]
OnDisconnect = Literal["stop", "continue"]
Notify = Literal["bell", "desktop"]
"""What hosts do when no controller has been heard for longer than a short while."""


class GitState(msgspec.Struct, frozen=True, kw_only=True):
    """The last commit, and how many of the files that travel differ from it, or are not in git."""

    commit: str
    changed: int = 0
    untracked: int = 0


class Hangs(msgspec.Struct, frozen=True, kw_only=True):
    """How long a run may show no sign of work before it is looked at, in seconds (0: it never is), and what
    follows when it hangs. ``learned``: it may be longer where the run is used to that."""

    timeout: float = 0.0
    learned: bool = False
    action: Literal["stop", "report"] = "stop"


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """The working directory as an immutable snapshot. ``digest`` is empty when nothing is synced.

    ``in_place`` allows running in ``root`` itself where a node holds the same content there. ``repository``:
    ``root`` is the top of a git repository that was chosen because the run starts inside of it. ``notes`` say
    what does not travel, and why.
    """

    root: str
    subdirectory: str = ""
    digest: str = ""
    files: int = 0
    size: int = 0
    in_place: bool = True
    repository: bool = False
    notes: tuple[str, ...] = ()
    git: GitState | None = None


class RunVariables(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes of a run will have on one host: all that the plan sets, and what it takes away; and
    the host's address in the network that was chosen."""

    address: str
    python: str
    env: dict[str, str]
    removed: tuple[str, ...] = ()


class NodePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One host's part. ``ranks`` are global, in local-rank order. ``removed`` are variables of the host's own
    sessions that the run is not to have. ``workdir`` is where the working directory lies on this host; empty
    for the same path as on the controller.
    """

    host: str
    node_rank: int
    slots: tuple[int, ...]
    declared_slots: int
    ranks: tuple[int, ...]
    address: str
    ifname: str
    python: str
    settings: tuple[Setting, ...]
    removed: tuple[str, ...] = ()
    workdir: str = ""
    caches: str = ""
    """Where what ranks compile goes on this host, if not into the home directory. The node must trust it."""


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """``command`` is the user's command without arguments, relative to the working directory of the run."""

    schema: Literal["clusterctl.plan/1"] = "clusterctl.plan/1"
    run: str
    start: Start
    command: tuple[str, ...]
    arguments: tuple[str, ...]
    pass_local_rank: bool
    world_size: int
    master_addr: str
    master_port: int
    nodes: tuple[NodePlan, ...]
    code: Code
    hostfile: str
    ssh_config: str = ""
    """The ssh configuration used to reach the hosts; empty for what `ssh` itself reads."""
    transport: Literal["fabric", "openssh"] = "fabric"
    enter: str = ""
    pdsh_ssh_args: str = ""
    """The user's own PDSH_SSH_ARGS_APPEND, for DeepSpeed's launcher over pdsh."""
    time_limit: float | None = None
    on_disconnect: OnDisconnect = "stop"
    on_end: str = ""
    """The user's own command line, for a shell of the controller when the run is over,"""
    launched_in: str = ""
    """and where it runs there."""
    notify: tuple[Notify, ...] = ()
    """How people are told of its end."""
    notes: tuple[str, ...] = ()
    """What the user should know before it starts, a sentence each."""
    log_limit: int = 0
    """Bytes of each rank's log that are kept; 0 for all."""
    attempt: int = 1
    """The run begins anew with every one: other ports, and other logs."""
    checkpoint_dir: str = ""
    """Where its checkpoints lie, seen from where it works; empty where nobody has said so."""
    resume: bool = False
    """Whether the first attempt, too, goes on from a checkpoint that is there."""
    resume_arguments: tuple[str, ...] | None = None
    """In place of ``arguments`` where there is one to go on from."""
    hangs: Hangs = Hangs()
    track: Track = ""
    """Where its metrics are sent while it lives; empty: nowhere."""

    @property
    def looks_for_checkpoints(self) -> bool:
        """Whether the hosts do before this attempt begins."""
        return bool(self.checkpoint_dir) and (self.resume or self.attempt > 1)

    def log_of(self, rank: int) -> str:
        """The name of a rank's log in this attempt."""
        return f"rank-{rank}{attempt_suffix(self.attempt)}.log"

    def metrics_of(self, rank: int) -> str:
        """The name of what a rank has told of its steps in this attempt."""
        return f"metrics-{rank}{attempt_suffix(self.attempt)}.jsonl"

    @property
    def samples(self) -> str:
        """The name of a host's samples in this attempt."""
        return f"samples{attempt_suffix(self.attempt)}.ndjson"

    @property
    def times(self) -> str:
        """The name of what a host tells of the times of its logs in this attempt."""
        return f"times{attempt_suffix(self.attempt)}.ndjson"

    @property
    def agent_log(self) -> str:
        """The name of the log of an agent and its engine in this attempt."""
        return f"agent{attempt_suffix(self.attempt)}.log"

    @property
    def launcher_log(self) -> str:
        """The name of the log of DeepSpeed's launcher on the controller in this attempt."""
        return f"deepspeed{attempt_suffix(self.attempt)}.log"

    def node_of(self, rank: int) -> NodePlan:
        """The node that runs the global rank. Raises KeyError for a rank outside the world."""
        for node in self.nodes:
            if rank in node.ranks:
                return node
        raise KeyError(rank)

    def is_copy(self, place: str) -> bool:
        """Whether the working directory ``place`` on a host is a copy of the run's own."""
        return f"/.clusterctl/node/{self.run}/" in place


def attempt_suffix(attempt: int) -> str:
    """What the files of an attempt are told by: nothing for the first."""
    return f".attempt-{attempt}" if attempt > 1 else ""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for, with nothing resolved against hosts yet. Settings come strongest first."""

    run: str
    start: Start
    command: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    pass_local_rank: bool = False
    settings: tuple[Setting, ...] = ()
    host_settings: dict[str, tuple[Setting, ...]] = {}
    removed: dict[str, tuple[str, ...]] = {}
    workdirs: dict[str, str] = {}
    caches: dict[str, str] = {}
    code: Code
    pdsh_ssh_args: str = ""
    time_limit: float | None = None
    on_disconnect: OnDisconnect = "stop"
    on_end: str = ""
    launched_in: str = ""
    notify: tuple[Notify, ...] = ()
    log_limit: int = 0
    attempt: int = 1
    checkpoint_dir: str = ""
    resume: bool = False
    resume_arguments: tuple[str, ...] | None = None
    hangs: Hangs = Hangs()
    track: Track = ""
    ssh_config: str = ""
    transport: Literal["fabric", "openssh"] = "fabric"
    gpus: dict[str, int] = {}
    """GPUs found on each host; slots of a host without one are processes, not devices."""
    pythons: dict[str, str] = {}
    """The interpreter each host will train with."""
    notes: tuple[str, ...] = ()

"""Every default of the product, in one place. Durations are seconds, sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SshDefaults:
    """Timeouts and limits of one SSH session; the figures are those measured for 2 to 1024 hosts."""

    connect_timeout: float = 10.0
    banner_timeout: float = 10.0
    auth_timeout: float = 10.0
    keepalive: float = 15.0
    probe_timeout: float = 60.0
    torch_timeout: float = 120.0
    window: int = 256
    gateway_window: int = 8
    handshakes: int = 48
    """Of hosts that have greeted us, so many log in at once: the controller's one core has enough to do."""
    logins_per_address: int = 8
    """Logins under way at once at one sshd: MaxStartups begins to drop them at ten."""
    retries: int = 3
    retry_pause: tuple[float, float] = (0.5, 1.5)
    """Doubled with each retry."""
    send_timeout: float = 30.0
    send_buffer: int = 1 << 20
    close_timeout: float = 2.0
    kept_for: float = 30.0
    """So long a session that waits to begin anew is used again; its host ends it after twice that."""
    gateway_memory: float = 5.0


@dataclass(frozen=True)
class RunDefaults:
    """How long a run waits before it believes something is wrong."""

    preferred_master_port: int = 29500
    heartbeat_timeout: float = 10.0
    lease_attached: float = 60.0
    keepalive: float = lease_attached / 20
    """Between two words of the controller to a host that has nothing else to be told."""
    lease_detached: float = 24 * 3600.0
    failure_grace: float = 1.5
    stop_grace: float = 30.0
    clock_error: float = 0.2
    noticed_late: float = 5.0
    confirm_timeout: float = 30.0
    """After the grace of a stop: how long a host may take to say that nothing is left on it."""
    log_timeout: float = 60.0
    """After a host's end: how long its logs may bring nothing new."""
    log_grace: float = 5.0
    """After the grace of an operator's stop and a host's end: how long its logs may still come."""
    patience: float = 2.0
    """After an interrupt that means now: when another one means that nobody is waited for any more."""
    disk_timeout: float = 60.0
    """At the end: for how long the controller's own disk may not answer."""
    disk_grace: float = 10.0
    """The same after an operator's stop or the time limit."""
    on_end_timeout: float = 600.0
    """For the user's own command at the end of a run."""
    early_exit_note: float = 30.0
    log_limit: int = 10**9
    """Bytes of each rank's log that are kept, on its host and here."""
    sync_timeout: float = 600.0
    pull_timeout: float = 60.0
    clean_timeout: float = 300.0
    sweep_timeout: float = 120.0

    def lease(self, on_disconnect: Literal["stop", "continue"]) -> float:
        """How long a host goes on without a word from its controller."""
        return self.lease_detached if on_disconnect == "continue" else self.lease_attached


@dataclass(frozen=True)
class HangDefaults:
    """When a run is suspected to hang, and how it is looked at."""

    timeout: float = 600.0
    interval: float = 5.0
    """Between two samples of what ranks do."""
    look_pause: float = 30.0
    """Between two looks; shorter where the limit is."""
    look_timeout: float = 45.0
    """For a host to show its ranks: it gives up after twenty."""
    unheard: float = 60.0
    """At least so long a host's samples may be late before they count as unknown."""
    raised: float = 60.0
    """The limit is no longer than this where the script of a rank has been ended by an exception."""
    first_steps: int = 5
    first_steps_factor: float = 2.0
    """Until so many samples have shown steps, ranks compile, load, tune: the default limit is longer."""
    learned_factor: float = 5.0
    """Of the longest silence that a run came out of: what the default limit gives way to,"""
    longest: float = 7200.0
    """up to this."""


@dataclass(frozen=True)
class SyncDefaults:
    """What a working directory may weigh before `launch` asks."""

    max_bytes: int = 200 * 10**6
    max_files: int = 20_000


@dataclass(frozen=True)
class ExecDefaults:
    """One command on all hosts. ``max_output`` is for each stream of each host."""

    timeout: float = 60.0
    login_timeout: float = 20.0
    end_timeout: float = 20.0
    max_output: int = 16 * 10**6


@dataclass(frozen=True)
class WhyDefaults:
    """How much of logs is looked at for an explanation, in bytes: of the rank that failed its beginning and
    its end, of others the end. ``brief`` is what launch itself reads when the run is over."""

    head: int = 4 << 20
    tail: int = 16 << 20
    other: int = 64 << 10
    brief: int = 256 << 10
    counted: int = 1 << 30
    """So far into a log its lines are counted."""


@dataclass(frozen=True)
class SandboxDefaults:
    """Virtual hosts on this machine."""

    name: str = "default"
    nodes: int = 2
    max_hosts: int = 250
    up_timeout: float = 120.0
    down_timeout: float = 30.0
    fetch_timeout: float = 180.0
    command_timeout: float = 60.0
    loopback_port: int = 2200


@dataclass(frozen=True)
class AskDefaults:
    """Timeouts of an examination, in seconds; a torch import has its own in `SshDefaults`."""

    facts_timeout: float = 60.0
    activation_timeout: float = 30.0
    listen_timeout: float = 30.0
    dial_timeout: float = 2.5
    """At least so long, and until the kernel has asked twice more, a request to connect is unanswered."""
    reply_timeout: float = 20.0
    traffic_timeout: float = 90.0
    """For all dials of one host, from when it begins."""
    tell_timeout: float = 60.0
    """After the host's own limit: how long its answer may take to come."""
    nccl_timeout: float = 60.0
    """For libnccl to say which address it takes; it needs a tenth of a second where nothing is wrong."""
    repeat_timeout: float = 60.0
    """For failed dials to be repeated alone, all together."""
    alive_interval: float = 20.0
    alive_timeout: float = 30.0
    """A host that is busy for long is asked so often whether it is there, and has so long to say it."""
    silence_timeout: float = 300.0
    """A node that hears nothing from its controller for so long, though the link stands, ends by itself."""
    master_ports: int = 100


@dataclass(frozen=True)
class ProofDefaults:
    """Trials over all hosts, in seconds. None of these decides a verdict: what is late is unknown."""

    timeout: float = 180.0
    still: float = 10.0
    """For so long all that is left must stand still before it is given up."""
    failed: float = 2.0
    """The same once a rank has failed: what others could say of it they have said."""
    tick: float = 1.0
    alive_interval: float = 20.0
    end_timeout: float = 60.0
    """After the timeout: when a process that nobody has ended ends by itself."""
    transfer: float = 1.0
    streams: int = 4
    connect_timeout: float = 30.0
    tell_timeout: float = 60.0
    device_timeout: float = 180.0
    dcgm_timeout: float = 180.0


@dataclass(frozen=True)
class LintDefaults:
    """A training config is judged before anything starts."""

    max_bytes: int = 1_000_000
    schema_timeout: float = 120.0


SSH = SshDefaults()
ASK = AskDefaults()
PROOF = ProofDefaults()
RUN = RunDefaults()
HANG = HangDefaults()
SYNC = SyncDefaults()
EXEC = ExecDefaults()
WHY = WhyDefaults()
LINT = LintDefaults()
SANDBOX = SandboxDefaults()

HOSTFILE_VARIABLE = "CLUSTERCTL_HOSTFILE"
HOME_VARIABLE = "CLUSTERCTL_HOME"
SSH_CONFIG_VARIABLE = "CLUSTERCTL_SSH_CONFIG"
JOB_HOSTFILE = "/job/hostfile"

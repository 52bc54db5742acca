"""Which programs of `clusterctl/node` travel with a relay: all that lives on a node during a run."""

from __future__ import annotations

RELAY = "run.relay"
RELAY_FILES = (
    "shared.environment", "shared.files", "shared.gpu_holders", "shared.locks",
    "shared.open_files", "shared.processes", "shared.watch",
    "run.directory", "run.installation", "run.snapshot", "run.forwarding", "run.log_limit",
    "run.caches", "run.traces", "run.agent_process", "run.agent", "run.engine", "run.ranks", "run.ends",
    "run.slots", "run.memory", "run.watcher", "run.watches", "run.watch_space", "run.watch_memory",
    "run.watch_kernel", "run.watch_devices", "run.rank", "run.checkpoints", "run.enter", "run.isolated",
    "run.sitecustomize",
    "run.dumps", "run.observation", "run.observer", "run.activity", "run.counters",
    "run.connections", "run.evidence", "run.stacks", "run.signalled", "run.debug_server", "run.recorder_dump",
)  # fmt: skip

"""Which programs of `clusterctl/node` travel with a relay: all that lives on a node during a run."""

from __future__ import annotations

RELAY = "run.relay"
RELAY_FILES = (
    "loader", "shared.compiled", "shared.environment", "shared.files", "shared.gpu_holders", "shared.locks",
    "shared.open_files", "shared.processes", "shared.watch",
    "run.directory", "run.installation", "run.snapshot", "run.forwarding", "run.log_limit", "run.log_times",
    "run.dumps", "run.caches", "run.traces", "run.agent_process", "run.agent", "run.engine", "run.ranks",
    "run.ends", "run.slots", "run.memory", "run.rank", "run.checkpoints", "run.enter", "run.isolated",
    "run.sitecustomize", "run.strays",
    "watch.watcher", "watch.watches", "watch.space", "watch.memory", "watch.kernel", "watch.devices",
    "observe.observation", "observe.observer", "observe.activity", "observe.counters",
    "observe.connections", "observe.evidence", "observe.stacks", "observe.signalled",
    "observe.samples", "observe.nvml", "observe.debug_server", "observe.recorder_dump",
)  # fmt: skip

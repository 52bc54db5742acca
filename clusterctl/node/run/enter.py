"""What `deepspeed --launcher pdsh` starts on a node instead of the controller's python.

It hands the launcher's argv to the waiting agent, which runs it as its own child, and ends with the engine's
exit code, so that pdsh sees what it would have seen.
"""

import json
import os

from ..shared.processes import is_running
from ..shared.watch import CLOSED, MODIFIED, MOVED_HERE, REMOVED, Watch
from .directory import AGENT, ENTER, EVENTS, NodeDirectory

LOOK_SECONDS = 1.0


def main(arguments):
    # Hosts made of namespaces may share this file, so the launcher's argument tells which node this is.
    runs, suffix, argv = arguments[0], arguments[1], arguments[2:]
    node_rank = next(part.partition("=")[2] for part in argv if part.startswith("--node_rank="))
    directory = NodeDirectory(os.path.join(runs, node_rank + suffix))
    watch = Watch()
    watch.add(directory.root, CLOSED | MODIFIED | MOVED_HERE | REMOVED)
    agent = directory.read(AGENT)
    directory.write(ENTER, argv)
    while True:
        alive = agent is not None and is_running(agent["pid"], agent["started"])
        events = read_events(directory)
        if not alive or any(event["event"] == "end" for event in events):
            codes = [event["code"] for event in events if event["event"] == "engine-exit"]
            return codes[0] if codes else 1
        watch.wait(LOOK_SECONDS)


def read_events(directory):
    """All so far; none when the run directory is gone."""
    try:
        with open(directory.path(EVENTS)) as stream:
            return [json.loads(line) for line in stream if line.endswith("\n")]
    except OSError:
        return []

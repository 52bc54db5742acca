"""What `deepspeed --launcher pdsh` starts on a node instead of the controller's python.

It hands the launcher's argv to the waiting agent, which runs it as its own child, and ends with the engine's
exit code, so that pdsh sees what it would have seen.
"""

import json
import os
import sys
import time

from .rank import write_whole

TICK = 0.1


def main():
    # Hosts made of namespaces may share this file, so the launcher's argument tells which node this is.
    argv = sys.argv[2:]
    node_rank = next(part.partition("=")[2] for part in argv if part.startswith("--node_rank="))
    run_dir = os.path.join(sys.argv[1], node_rank)
    write_whole(os.path.join(run_dir, "enter.json"), argv)
    code = None
    while True:
        try:
            with open(os.path.join(run_dir, "events.jsonl")) as stream:
                events = [json.loads(line) for line in stream if line.endswith("\n")]
        except OSError:
            return 1 if code is None else code
        for event in events:
            if event["event"] == "engine-exit":
                code = event["code"]
            if event["event"] == "end":
                return 1 if code is None else code
        time.sleep(TICK)


if __name__ == "__main__":
    sys.exit(main())

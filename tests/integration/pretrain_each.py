"""Trains one job after another in processes that have loaded torch and DeepSpeed once: loading them takes
longer than a job of a test.

`pretrain_each.py TRAIN JOBS`: where pretrain.py lies, and a JSON list of its arguments. Ends with the first
exit code that is not 0.
"""

from __future__ import annotations

import json
import os
import sys
import traceback

sys.path.insert(0, sys.argv[1])

import pretrain
import training  # noqa: F401 (what pretrain.py loads when it starts)
import zero  # noqa: F401


def train(number: int, arguments: list[str]) -> int:
    """The exit code of a job in a process of its own."""
    child = os.fork()
    if child == 0:
        # A store of its own: torchrun's remembers where the ranks of the job before were.
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
        os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1 + number)
        try:
            pretrain.end(pretrain.main(arguments))
        except BaseException:  # noqa: BLE001 (not one that the parent's frames should see)
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(jobs: list[list[str]]) -> int:
    return next((code for number, job in enumerate(jobs) if (code := train(number, job))), 0)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[2])))

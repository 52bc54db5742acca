"""Pretrain a GPT with DeepSpeed ZeRO: `torchrun --nproc-per-node 2 pretrain.py --help`."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from arguments import parse
from errors import EXIT_DIVERGED, EXIT_USAGE, Diverged, UserError
from quiet import quieten


def main(argv: list[str]) -> int:
    """Exit code: 0 when trained to the end, 64 for a mistake in the request, 1 when the loss became NaN,
    128+n when a signal ended it."""
    try:
        args = parse(argv)
        quieten()
        # Imported late: a wrong argument is answered before torch and DeepSpeed have loaded.
        import training

        return training.run(args)
    except UserError as error:
        if error.rank_local or os.environ.get("RANK", "0") == "0":
            print(f"pretrain.py: {error}", file=sys.stderr, flush=True)
        return EXIT_USAGE
    except Diverged as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"pretrain.py: {error}", file=sys.stderr, flush=True)
        return EXIT_DIVERGED


def end(code: int) -> NoReturn:
    """Leave without the interpreter's teardown, where a thread of gloo sometimes aborts a finished rank."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end(main(sys.argv[1:]))

"""Fine-tune a language model on conversations: `torchrun --nproc-per-node 2 sft.py --help`."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import NoReturn

from arguments import Formatter, Parser
from errors import EXIT_DIVERGED, EXIT_USAGE, Diverged, UserError
from quiet import quieten

CONFIGS = Path(__file__).resolve().parent / "configs" / "hf"
STRATEGIES = ("ddp", "zero1", "zero2", "zero3", "zero2-offload", "zero3-offload")
METHODS = ("full", "lora", "qlora")


def main(argv: list[str]) -> int:
    """Exit code: 0 when trained to the end and what was saved is proved, 64 for a mistake in the request, 1
    when the loss became NaN or nothing was learned, 128+n when a signal ended it."""
    try:
        args = parse(argv)
        quieten()
        # Imported late: a wrong argument is answered before torch and transformers have loaded.
        import finetuning

        return finetuning.run(args)
    except (UserError, Diverged) as error:
        if os.environ.get("RANK", "0") == "0" or getattr(error, "rank_local", False):
            print(f"sft.py: {error}", file=sys.stderr, flush=True)
        return EXIT_USAGE if isinstance(error, UserError) else EXIT_DIVERGED


def parse(argv: list[str]) -> argparse.Namespace:
    """The checked arguments; None where --deepspeed FILE may still decide. Raises UserError."""
    args = _build().parse_args(argv)
    for name in ("model", "data", "save_dir"):
        if not getattr(args, name).strip():
            raise UserError(f"--{name} is empty", hint="perhaps a variable of the shell is not set")
    model = Path(args.model).expanduser()
    if model.is_dir():
        # The adapter names its model, and is used elsewhere.
        args.model = str(model.resolve())
    if args.deepspeed and args.strategy:
        raise UserError("--strategy and --deepspeed both name the settings", hint="give one of them")
    if not args.deepspeed:
        args.strategy = args.strategy or "zero2"
        args.deepspeed = None if args.strategy == "ddp" else str(CONFIGS / f"{args.strategy}.json")
    for name in ("seq_len", "steps", "micro_batch", "gas", "log_every", "keep", "lora_rank"):
        _require(args, name, lambda value: value >= 1, "1 or more")
    for name in ("epochs", "lr", "lora_alpha"):
        _require(args, name, lambda value: value > 0, "a number above 0")
    for name in ("seed", "eval_every", "save_every", "weight_decay", "warmup"):
        _require(args, name, lambda value: value >= 0, "0 or more")
    for name in ("eval_share", "lora_dropout"):
        _require(args, name, lambda value: 0 <= value < 1, "a share from 0 up to, but not including, 1")
    return args


def _require(args: argparse.Namespace, name: str, holds: object, wanted: str) -> None:
    value = getattr(args, name)
    if value is not None and not (math.isfinite(value) and callable(holds) and holds(value)):
        raise UserError(f"--{name} is {value:g}", hint=f"give {wanted}")


def _build() -> argparse.ArgumentParser:
    parser = Parser(
        prog="sft.py",
        description="Fine-tune a language model on conversations. Start it with torchrun or deepspeed.",
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("model and data")
    what.add_argument("--model", required=True, metavar="DIR", help="a directory, or a hub name")
    what.add_argument(
        "--data", required=True, metavar="FILE", help=".jsonl, .json, .csv, .parquet, a directory, a hub name"
    )
    what.add_argument("--eval_data", metavar="FILE", help="held out (default: --eval_share of --data)")
    what.add_argument("--eval_share", type=float, default=0.05, help="of --data, held out; 0: none")
    what.add_argument(
        "--seq_len", type=int, default=1024, help="longer conversations are cut here, in tokens"
    )
    what.add_argument("--chat_template", metavar="FILE", help="Jinja, in place of the tokenizer's own")

    how = parser.add_argument_group("method")
    how.add_argument("--method", choices=METHODS, default="lora")
    how.add_argument("--lora_rank", type=int, default=16)
    how.add_argument("--lora_alpha", type=float, default=32)
    how.add_argument("--lora_dropout", type=float, default=0.0)
    how.add_argument("--lora_targets", default="all-linear", help="or names, such as q_proj,v_proj")
    how.add_argument("--gradient_checkpointing", action="store_true", help="less memory, a third more work")

    engine = parser.add_argument_group("engine")
    engine.add_argument(
        "--strategy", choices=STRATEGIES, help="a file of configs/hf, or ddp (default: zero2)"
    )
    engine.add_argument("--deepspeed", metavar="FILE", help="DeepSpeed settings as transformers reads them")
    engine.add_argument("--dtype", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    engine.add_argument("--local_rank", type=int, help="added by `deepspeed`; LOCAL_RANK comes first")

    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=float, default=1.0, help="passes over the data")
    training.add_argument("--steps", type=int, help="optimizer steps, in place of --epochs")
    training.add_argument("--lr", type=float, help="peak (default: 2e-4, and 2e-5 for --method full)")
    training.add_argument("--warmup", type=int, help="steps (default: 3 %% of all)")
    training.add_argument("--weight_decay", type=float, help="(default: 0)")
    training.add_argument("--micro_batch", type=int, help="conversations per rank and pass (default: 4)")
    training.add_argument("--gas", type=int, help="passes per step (default: 1)")
    training.add_argument("--seed", type=int, default=1234)

    progress = parser.add_argument_group("evaluation, progress and checkpoints")
    progress.add_argument("--eval_every", type=int, default=0, help="steps; 0: before and after only")
    progress.add_argument("--log_every", type=int, default=10, help="steps between lines")
    progress.add_argument(
        "--save_dir", required=True, metavar="DIR", help="the adapter or model, and checkpoints"
    )
    progress.add_argument("--save_every", type=int, default=0, help="steps between checkpoints; 0: none")
    progress.add_argument("--keep", type=int, default=2, help="newest checkpoints to keep")
    progress.add_argument(
        "--resume", metavar="WHAT", help="auto (newest in --save_dir, if any) or a checkpoint"
    )
    return parser


def end(code: int) -> NoReturn:
    """Leave without the interpreter's teardown, where a thread of gloo sometimes aborts a finished rank."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end(main(sys.argv[1:]))

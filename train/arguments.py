"""The command line of pretrain.py: what may be asked, the defaults, and what is refused at once."""

from __future__ import annotations

import argparse
import math
from typing import NoReturn

from errors import UserError

DTYPES = ("auto", "bf16", "fp16", "fp32")
DDP = "ddp"
STRATEGIES = (
    DDP,
    "zero1",
    "zero2",
    "zero3",
    "zero2-offload",
    "zero3-offload",
    "zero3-nvme",
)
DEFAULT_STRATEGY = "zero2"
OPTIMIZERS = ("adamw", "sgd")
# For GPUs; those of GPT-2 and GPT-3.
SIZES = {
    "124m": {"n_layer": 12, "d_model": 768, "n_head": 12, "seq_len": 1024, "vocab_multiple": 128},
    "350m": {"n_layer": 24, "d_model": 1024, "n_head": 16, "seq_len": 1024, "vocab_multiple": 128},
    "760m": {"n_layer": 24, "d_model": 1536, "n_head": 16, "seq_len": 2048, "vocab_multiple": 128},
    "1.3b": {"n_layer": 24, "d_model": 2048, "n_head": 16, "seq_len": 2048, "vocab_multiple": 128},
}
DEFAULT_WARMUP = 10


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        # An argument that is None until later explains its default in its own words.
        return action.help if action.default is None else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message, hint=f"`python {self.prog} --help` lists every argument")


def parse(argv: list[str]) -> argparse.Namespace:
    """The checked arguments; None where the ds_config or the program may still decide.

    Raises UserError for anything that cannot be right whatever the hosts are like.
    """
    parser = _build()
    if size := parser.parse_args(argv).size:
        parser.set_defaults(**SIZES[size])
    args = parser.parse_args(argv)
    _refuse_nonsense(args)
    if args.deepspeed and args.ds_config not in (None, args.deepspeed):
        raise UserError("--deepspeed and --ds_config name two files", hint="give one of them")
    args.ds_config = args.ds_config or args.deepspeed
    if args.strategy and args.ds_config:
        raise UserError("--strategy and --ds_config both say how to train", hint="give one of them")
    if args.strategy and args.zero_stage is not None:
        raise UserError(
            f"--zero_stage {args.zero_stage} beside --strategy {args.strategy}",
            hint="leave --zero_stage out: the strategy names its stage",
        )
    if args.ds_config is None and args.strategy != DDP:
        args.ds_config = (args.strategy or DEFAULT_STRATEGY).replace("-", "_")
    args.given = {name for name in ("lr", "warmup", "lr_decay_steps") if getattr(args, name) is not None}
    if args.warmup is None:
        args.warmup = DEFAULT_WARMUP
    if args.lr_decay_steps is None:
        args.lr_decay_steps = args.steps
    return args


def _build() -> argparse.ArgumentParser:
    parser = Parser(
        prog="pretrain.py",
        description="Train a GPT from scratch, by DDP or ZeRO. Start it with torchrun or deepspeed.",
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    model = parser.add_argument_group("model")
    model.add_argument("--size", choices=SIZES, help="for GPUs; sets the next five (default: a toy for CPUs)")
    model.add_argument("--n_layer", type=int, default=4, help="transformer blocks")
    model.add_argument("--d_model", type=int, default=256, help="width of the residual stream")
    model.add_argument("--n_head", type=int, default=4, help="attention heads; they share d_model equally")
    model.add_argument("--seq_len", type=int, default=128, help="tokens per sample")
    model.add_argument(
        "--vocab_multiple", type=int, default=1, help="round the vocabulary up to this; 128 suits GPUs"
    )
    model.add_argument("--dropout", type=float, default=0.0)

    training = parser.add_argument_group("training")
    training.add_argument("--steps", type=int, default=60, help="optimizer steps")
    training.add_argument(
        "--lr", type=float, help="peak learning rate (default: from --ds_config, else 1e-3)"
    )
    training.add_argument("--warmup", type=int, help="steps of linear warm-up (default: 10)")
    training.add_argument(
        "--lr_decay_steps", type=int, help="cosine decay to a tenth ends here (default: --steps)"
    )
    training.add_argument(
        "--weight_decay", type=float, help="on matrices only (default: from --ds_config, else 0.1)"
    )
    training.add_argument("--seed", type=int, default=1234)
    training.add_argument(
        "--micro_batch", type=int, help="samples per rank and pass (default: from --ds_config)"
    )
    training.add_argument("--gas", type=int, help="gradient accumulation steps (default: from --ds_config)")

    training.add_argument(
        "--grad_clip", type=float, help="largest gradient norm; 0: any (default: from --ds_config, else 1)"
    )
    training.add_argument(
        "--optimizer", choices=OPTIMIZERS, help="sgd: momentum 0.9 (default: from --ds_config, else adamw)"
    )

    engine = parser.add_argument_group("engine")
    engine.add_argument(
        "--strategy",
        choices=STRATEGIES,
        help="ddp: PyTorch alone; the others: DeepSpeed by a file in configs/ (default: zero2)",
    )
    engine.add_argument(
        "--ds_config",
        "--deepspeed_config",
        metavar="FILE",
        help="in place of a strategy: a JSON file, or a name in configs/",
    )
    engine.add_argument(
        "--deepspeed", nargs="?", const="", metavar="FILE", help="the same, as transformers spells it"
    )
    engine.add_argument(
        "--zero_stage", type=int, choices=(0, 1, 2, 3), help="in place of the ds_config's stage"
    )
    engine.add_argument(
        "--nvme_path", metavar="DIR", help="where zero3-nvme offloads to: on a local disk of each host"
    )
    engine.add_argument(
        "--dtype", choices=DTYPES, default="auto", help="auto: what every device here does well"
    )
    engine.add_argument(
        "--activation_checkpointing",
        action="store_true",
        help="keep less for backward, compute it again",
    )
    engine.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler")
    engine.add_argument("--local_rank", type=int, help="added by `deepspeed`; LOCAL_RANK comes first")

    data = parser.add_argument_group("data")
    data.add_argument(
        "--data", default="builtin", metavar="WHAT", help="builtin, wikitext, or a file or directory"
    )
    data.add_argument(
        "--tokenizer", default="builtin", metavar="WHAT", help="builtin, a tokenizer.json, or a hub name"
    )
    data.add_argument(
        "--cache_dir", metavar="DIR", help="tokens are kept here (default: ~/.cache/gpt-pretrain)"
    )

    progress = parser.add_argument_group("evaluation and progress")
    progress.add_argument(
        "--eval_every", type=int, default=0, help="steps between evaluations; 0: only at the end"
    )
    progress.add_argument(
        "--eval_batches", type=int, default=8, help="held-out batches of 8 samples, over all ranks; 0: none"
    )
    progress.add_argument("--sample", metavar="TEXT", help="at the end, let the model go on from this")
    progress.add_argument("--sample_tokens", type=int, default=48, help="so many tokens of it")
    progress.add_argument("--log_every", type=int, default=5, help="steps between progress lines")
    progress.add_argument(
        "--metrics", metavar="FILE", help="append every step and evaluation as JSON lines (rank 0)"
    )

    checkpoint = parser.add_argument_group("checkpoints")
    checkpoint.add_argument("--save_dir", metavar="DIR", help="keep checkpoints here; also saves on SIGTERM")
    checkpoint.add_argument(
        "--save_every", type=int, default=0, help="steps between checkpoints; 0: only at the end"
    )
    checkpoint.add_argument("--keep", type=int, default=2, help="newest checkpoints to keep")
    checkpoint.add_argument(
        "--resume", metavar="WHAT", help="auto (newest in --save_dir, if any) or a directory"
    )
    checkpoint.add_argument(
        "--export", metavar="DIR", help="at the end, write the model here as transformers loads it"
    )
    return parser


def _refuse_nonsense(args: argparse.Namespace) -> None:
    for name in (
        "n_layer",
        "d_model",
        "n_head",
        "seq_len",
        "steps",
        "log_every",
        "keep",
        "vocab_multiple",
        "sample_tokens",
    ):
        _at_least(args, name, 1)
    for name in ("micro_batch", "gas", "lr_decay_steps"):
        _at_least(args, name, 1)
    for name in ("warmup", "seed", "eval_every", "eval_batches", "save_every", "weight_decay", "grad_clip"):
        _at_least(args, name, 0)
    for name in ("lr", "weight_decay", "grad_clip"):
        if not math.isfinite(getattr(args, name) or 0.0):
            raise UserError(f"--{name} is {getattr(args, name)}", hint="give a number, such as 3e-4")
    if args.lr is not None and args.lr <= 0:
        raise UserError(f"--lr is {args.lr:g}", hint="give a learning rate above 0, such as 3e-4")
    if not 0 <= args.dropout < 1:
        raise UserError(
            f"--dropout is {args.dropout:g}", hint="give a share from 0 up to, but not including, 1"
        )
    if args.d_model % args.n_head:
        raise UserError(
            f"--d_model {args.d_model} does not divide into {args.n_head} heads",
            hint="choose --n_head so that every head gets the same width, 64 is usual",
        )
    if args.save_every and not args.save_dir:
        raise UserError("--save_every without --save_dir", hint="add --save_dir DIR")
    if args.eval_every and not args.eval_batches:
        raise UserError("--eval_every with --eval_batches 0", hint="leave one of them out")
    if args.resume == "auto" and not args.save_dir:
        raise UserError(
            "--resume auto without --save_dir", hint="add --save_dir DIR, where to look and to save"
        )


def _at_least(args: argparse.Namespace, name: str, least: int) -> None:
    value = getattr(args, name)
    if value is not None and value < least:
        raise UserError(f"--{name} is {value}", hint=f"give {least} or more")

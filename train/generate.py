"""Answers from a model, with an adapter or without: `python generate.py --model DIR --adapter DIR "prompt"`.

Without a prompt it is a chat in the terminal, or answers each line of a file on stdin. `--merge DIR` writes
base and adapter as one model.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arguments import Parser
from errors import EXIT_USAGE, UserError
from quiet import quieten


def main(argv: list[str]) -> int:
    """Exit code: 0, 64 for a mistake in the request, 130 after Ctrl-C."""
    try:
        args = parse(argv)
        quieten()
        # Imported late: a wrong argument is answered before torch and transformers have loaded.
        import answering

        model = answering.Model(args)
        if args.merge:
            print(model.merge(Path(args.merge).expanduser()), flush=True)
        if args.prompt:
            model.answer([*_system(args), {"role": "user", "content": args.prompt}], _say)
            print(flush=True)
        elif not args.merge:
            _chat(model, args)
    except UserError as error:
        print(f"generate.py: {error}", file=sys.stderr, flush=True)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return 130
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    """The checked arguments. Raises UserError."""
    parser = Parser(prog="generate.py", description="Answers from a model, and from an adapter on it.")
    parser.add_argument("prompt", nargs="?", help="a question; without it: a chat, or the lines of stdin")
    parser.add_argument(
        "--model", metavar="DIR", help="a directory, or a hub name (default: what the adapter names)"
    )
    parser.add_argument("--adapter", metavar="DIR", help="what sft.py saved")
    parser.add_argument("--merge", metavar="DIR", help="write base and adapter here as one model")
    parser.add_argument("--system", metavar="TEXT", help="a system message before all others")
    parser.add_argument("--max_new_tokens", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=0.0, help="0: always the likeliest token")
    parser.add_argument("--top_p", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--dtype", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    args = parser.parse_args(argv)
    if not args.model and not args.adapter:
        raise UserError("neither --model nor --adapter", hint="give the directory that sft.py saved")
    if args.max_new_tokens < 1:
        raise UserError(f"--max_new_tokens is {args.max_new_tokens}", hint="give 1 or more")
    if not args.temperature >= 0 or not 0 < args.top_p <= 1:
        raise UserError(
            "--temperature is below 0, or --top_p not from 0 to 1", hint="--temperature 0.7 --top_p 0.9"
        )
    return args


def _chat(model: Any, args: argparse.Namespace) -> None:
    """Each line is a question. In a terminal they are one conversation, in a file each is its own."""
    together = sys.stdin.isatty()
    if together:
        print("An empty line begins anew, Ctrl-D ends.", flush=True)
    messages = _system(args)
    for line in _lines(together):
        if not line.strip():
            messages = _system(args)
            continue
        messages.append({"role": "user", "content": line})
        answer = model.answer(messages, _say)
        print(flush=True)
        messages = [*messages, {"role": "assistant", "content": answer}] if together else _system(args)


def _lines(together: bool) -> Iterator[str]:
    if not together:
        for line in sys.stdin:
            yield line.rstrip("\n")
        return
    # Line editing and history, where Python has them.
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    with contextlib.suppress(EOFError):
        while True:
            yield input("> ")
    print()


def _system(args: argparse.Namespace) -> list[dict[str, str]]:
    return [{"role": "system", "content": args.system}] if args.system else []


def _say(piece: str) -> None:
    # A model may answer anything, also what moves a terminal's cursor.
    print("".join(each for each in piece if each.isprintable() or each in "\n\t"), end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

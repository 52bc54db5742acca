"""What a fine-tuning learns from, and what it is judged by: read and encoded before a model is loaded."""

from __future__ import annotations

import hashlib
import random
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chat
import conversations
import weights
from errors import UserError
from ranks import Place, gather


@dataclass(frozen=True)
class Lesson:
    """What is learned, and what is held out from it, as tokens."""

    config: Any
    tokenizer: Any
    template: str
    longest: int
    training: chat.Examples
    heldout: chat.Examples | None

    @property
    def digest(self) -> str:
        held = self.heldout.kept if self.heldout else []
        digest = hashlib.sha256()
        for example in (*self.training.kept, *held):
            digest.update(repr((example.input_ids, example.labels)).encode())
        return digest.hexdigest()

    @property
    def remarks(self) -> Iterable[str]:
        """What of the data is not learned, in words."""
        cut, dropped, unlearned = self.training.cut, self.training.dropped, self.training.unlearned
        if cut:
            yield f"{cut:,} conversations are longer than {self.longest:,} tokens and cut"
        if dropped:
            yield f"{dropped:,} of them are left out: the cut is before the answer"
        if self.training.unseen:
            yield f"{self.training.unseen:,} messages are not in the text: the template leaves them out"
        if unlearned:
            yield f"{unlearned:,} earlier answers are not learned: the template rewrites them later on"


def read(args: Namespace, place: Place) -> Lesson:
    """Raises UserError for this rank."""
    config, tokenizer = weights.describe(args.model, place)
    template = _template(args.chat_template, place) if args.chat_template else None
    said = chat.prepare(tokenizer, template)
    rows = conversations.read(args.data)
    held = conversations.read(args.eval_data) if args.eval_data else []
    if not args.eval_data and args.eval_share:
        random.Random(args.seed).shuffle(rows)
        count = max(1, round(len(rows) * args.eval_share))
        held, rows = rows[:count], rows[count:]
    if not rows:
        raise UserError(
            f"{args.data} has one conversation, and it is held out", hint="--eval_share 0, or more data"
        )
    longest = min(args.seq_len, getattr(config.get_text_config(), "max_position_embeddings", args.seq_len))
    training = chat.encode(tokenizer, rows, longest)
    heldout = chat.encode(tokenizer, held, longest) if held else None
    for examples in (training, heldout):
        if examples is not None and not examples.kept:
            raise UserError(
                f"no conversation reaches its answer within {longest:,} tokens",
                hint="give a larger --seq_len, or a model that reads longer texts",
            )
    return Lesson(config, tokenizer, said, longest, training, heldout)


def _template(file: str, place: Place) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{place.host}: {file} cannot be read: {error}", hint="--chat_template names a file with Jinja"
        ) from error


def require_equal(lesson: Lesson, place: Place) -> None:
    """Refuse to train where ranks have read different things. Collective; raises UserError."""
    views = gather((lesson.digest, place.host))
    other = next((host for view, host in views if view != views[0][0]), None)
    if other:
        raise UserError(
            f"{other} has other data, or another tokenizer, than {views[0][1]}",
            hint="copy --data and --model to all hosts again",
        )

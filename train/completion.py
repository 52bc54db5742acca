"""What the model writes when it is given a beginning."""

from __future__ import annotations

from argparse import Namespace

import torch
import torch.distributed as dist
from tokenizers import Tokenizer

from engine import Engine
from ranks import Place

TEMPERATURE = 0.8
MOST_LIKELY = 50


def complete(engine: Engine, tokenizer: Tokenizer, args: Namespace, place: Place) -> str:
    """`--sample` and `--sample_tokens` more, drawn among the likeliest, the same each time. Collective."""
    # An empty beginning still needs something to follow.
    text = tokenizer.encode(args.sample).ids or [0]
    draw = torch.Generator().manual_seed(args.seed)
    for _ in range(args.sample_tokens):
        window = torch.tensor([text[-args.seq_len :]], device=place.device)
        logits = engine.forward(window)[0, -1, : tokenizer.get_vocab_size()].float().cpu()
        likeliest, ids = (logits / TEMPERATURE).topk(min(MOST_LIKELY, len(logits)))
        token = ids[torch.multinomial(likeliest.softmax(-1), 1, generator=draw)].to(place.device)
        # Unlike devices may round their way to unlike tokens.
        dist.broadcast(token, 0)
        text.append(int(token))
    decoded: str = tokenizer.decode(text)
    return decoded

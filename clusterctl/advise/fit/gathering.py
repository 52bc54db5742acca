"""What ZeRO-3 gathers in one micro-batch: each use of each matrix, and what is kept from one use to the next.

As DeepSpeed 0.19.8 does it (partitioned_param_coordinator.py): before a use it gathers ahead, up to
``stage3_prefetch_bucket_size`` elements that are not there, and while no more than
``stage3_max_live_parameters`` are. After a use it frees the parameter, unless gathering ahead has passed a
later use of it already, or one comes within ``stage3_max_reuse_distance`` elements. A tied embedding stays
from the head's backward pass to its own, which was counted and is not explained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from clusterctl.advise.fit.shapes import Shape


class Limits(msgspec.Struct, frozen=True):
    """Elements: the three settings."""

    ahead: int
    live: int
    reuse: int


def gathered(shape: Shape, limits: Limits, adapters: int = 0) -> int:
    """Elements that a rank gathers forward and backward; ``adapters`` are those of all layers. What is
    checkpointed comes again within the distance, and is not gathered anew."""
    forward = tuple(_uses(shape, adapters))
    uses = forward + forward[::-1]
    there: dict[str, int] = {}
    passed: Counter[str] = Counter()
    total = following = 0
    for at, (name, size) in enumerate(uses):
        if name not in there:
            there[name] = size
            total += size
        following = max(following, at + 1)
        room, taken = min(limits.ahead, limits.live - sum(there.values())), 0
        while following < len(uses) and taken < room:
            other, more = uses[following]
            passed[other] = following
            following += 1
            if other not in there:
                there[other] = more
                taken += more
        total += taken
        waits = shape.tied and name == "words" and at >= len(forward)
        if not (waits or passed[name] > at or _soon_again(name, uses, at + 1, limits.reuse)):
            del there[name]
    # Of a shape that is assumed only the sum is known.
    return round(total * (shape.parameters + adapters) / sum(dict(forward).values()))


def _uses(shape: Shape, adapters: int) -> Iterator[tuple[str, int]]:
    """Of the forward pass, in their order."""
    words = shape.vocabulary * shape.hidden
    heads = 0 if shape.tied else words
    rest = max(0, shape.parameters - shape.in_linears - words - heads)
    yield "words", words
    yield "positions and norms", rest
    for layer in range(shape.layers):
        for at, each in enumerate(shape.linears):
            apart = each.count if each.used is None else 1  # experts lie in one tensor
            for one in range(apart):
                yield f"{layer}.{at}.{one}", each.parameters // apart
        if adapters:
            yield f"{layer}.adapters", adapters // shape.layers
    yield ("words" if shape.tied else "head"), words


def _soon_again(name: str, uses: tuple[tuple[str, int], ...], start: int, reuse: int) -> bool:
    passed = 0
    for at in range(start, len(uses)):
        other, size = uses[at]
        if passed >= reuse:
            return False
        if other == name:
            return True
        passed += size
    return False

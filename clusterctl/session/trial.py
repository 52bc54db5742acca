"""What one run of a comparison told: of its outcome, its steps and its ranks' own lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import msgspec

from clusterctl.advise.compare.model import Held, Taken, Told, Trial
from clusterctl.advise.explain import Explanation
from clusterctl.advise.fit.job import Precision
from clusterctl.plan.model import LaunchPlan
from clusterctl.session.run import Run
from clusterctl.session.why import why
from clusterctl.store.metrics import read_steps
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory

_PRECISIONS: Mapping[str, Precision] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_LONGEST_LINE = 64 << 10


def told_by(run: Run, outcome: Outcome, warmup: int) -> Trial:
    """What its directory holds now. Its name and number are the caller's."""
    bare = Trial(strategy="", repetition=0, run=run.id, ending="measured", seconds=outcome.seconds)
    steps = tuple(
        Taken(
            step=step.step,
            seconds=step.step_s_max,
            tokens=step.tokens,
            loss=step.loss,
            mfu=step.mfu,
        )
        for step in read_steps(run.path)
    )
    if outcome.status == "stopped":
        return msgspec.structs.replace(bare, ending="stopped", cause="stopped", steps=steps)
    if outcome.status != "succeeded":
        found = why(RunDirectory(run.path), outcome=outcome)
        code = found.sighting.code if found.sighting is not None else ""
        return msgspec.structs.replace(
            bare,
            ending="failed",
            cause=" ".join(filter(None, (found.means or f"it {outcome.status}", last_words(found)))),
            hint=found.hint,
            out_of_memory=code.startswith(("gpu.memory", "memory.host", "memory.limit"))
            or (outcome.cause is not None and outcome.cause.kind == "oom"),
            steps=steps,
        )
    if not any(step.step > warmup and step.seconds for step in steps):
        return msgspec.structs.replace(
            bare,
            ending="failed",
            cause="it ended well and told of no step after the warm-up",
            hint="write steps to $CLUSTERCTL_METRICS (docs/metrics.md), or take more --steps",
            steps=steps,
        )
    held, told, sent = ranks_told(run.path, run.plan, warmup)
    return msgspec.structs.replace(bare, steps=steps, held=held, told=told, sent=sent)


def last_words(found: Explanation) -> str:
    """What the script said, where only its exit code is known: its last line, but for a hint."""
    said = [line.strip() for line in found.quoted if line.strip() and not line.startswith("hint:")]
    return f"({said[-1]})" if said and not found.known else ""


def ranks_told(
    path: Path, plan: LaunchPlan, warmup: int
) -> tuple[dict[int, Held], Told | None, dict[str, float]]:
    """From the ranks' own lines: what each held, what the model is, bytes a step that each host sent. A line
    that is not as expected is passed over: scripts write what they like."""
    held: dict[int, Held] = {}
    told = None
    sent: dict[str, float] = {}
    for node in plan.nodes:
        counted: list[float] = []
        for rank in node.ranks:
            for line in _lines(path / "metrics" / f"rank{rank}.jsonl"):
                found = _held(line)
                if found is not None:
                    held[rank], told = found, told or _model(line)
                step, bytes_sent = line.get("step"), line.get("sent_bytes")
                if _is_count(step) and _is_count(bytes_sent) and step > warmup:
                    counted.append(bytes_sent)
        if counted:
            sent[node.host] = sum(counted) / len(counted)
    return held, told, sent


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """None of a rank that told nothing, or whose file cannot be read: it counts as one that told nothing."""
    try:
        with path.open("rb") as stream:
            while data := stream.readline(_LONGEST_LINE):
                try:
                    found = json.loads(data)
                except (ValueError, RecursionError):
                    continue
                if isinstance(found, dict):
                    yield found
    except OSError:
        return


def _held(line: Mapping[str, Any]) -> Held | None:
    names = ("weights", "gradients", "optimizer", "activations", "counted_peak")
    sizes = [line.get(f"{name}_bytes") for name in names]
    if not all(map(_is_count, sizes)):
        return None
    weights, gradients, optimizer, activations, peak = map(int, sizes)  # type: ignore[arg-type]
    host = line.get("host_bytes")
    return Held(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=activations,
        peak=peak,
        host=host if _is_count(host) else None,
    )


def _model(line: Mapping[str, Any]) -> Told:
    parameters, accumulation = line.get("parameters"), line.get("accumulation")
    return Told(
        parameters=parameters if _is_count(parameters) else 0,
        precision=_PRECISIONS.get(str(line.get("dtype"))),
        accumulation=accumulation if _is_count(accumulation) and accumulation else 1,
        device=str(line.get("device", ""))[:100],
    )


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 1 << 60

"""Runs cases as torchrun does, and puts what was counted beside what `fit` says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from clusterctl.advise.fit import traffic
from clusterctl.advise.fit.job import World
from clusterctl.advise.fit.memory import largest_trained, on_device, on_host, states, trainable
from clusterctl.advise.fit.shapes import of_config
from clusterctl.advise.fit.traffic import Collectives
from tests.fit.cases import MODELS, Case

RANK = Path(__file__).with_name("rank.py")
TRAIN = Path(__file__).parents[2] / "train"


class Row(msgspec.Struct, frozen=True):
    """Bytes on one rank after a step, the most during one, and what it sends in one by NCCL's rings: as
    predicted, and as counted."""

    case: Case
    states: int
    states_counted: int
    peak: int
    peak_counted: int
    sent: int
    sent_counted: int

    @property
    def off_states(self) -> float:
        return self.states / self.states_counted - 1

    @property
    def off_peak(self) -> float:
        return self.peak / self.peak_counted - 1

    @property
    def off_sent(self) -> float:
        return self.sent / self.sent_counted - 1 if self.sent_counted else 0.0


def measure(cases: Sequence[Case]) -> list[Row]:
    """All of one number of ranks, in one start. Raises AssertionError for a case that failed."""
    (ranks,) = {case.ranks for case in cases}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"),
            *(str(RANK), json.dumps([case.for_rank() for case in cases])),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TRAIN)},
        check=False,
    )
    told = [
        json.loads(line.partition(" ")[2]) for line in done.stdout.splitlines() if line.startswith("MEASURED")
    ]
    assert len(told) == len(cases), done.stderr[-3000:]
    counted = {each["name"]: each for each in told}
    return [_row(case, counted[case.name]) for case in cases]


def predicted(case: Case) -> tuple[int, int]:
    """States after a step, and the peak; on a CPU what is offloaded lies in the same memory."""
    shape, job = of_config(MODELS[case.model]), case.job
    world = World(ranks=(case.ranks,), library="gloo")
    own = states(shape, job, case.plan, case.ranks)
    device = on_device(shape, job, case.plan, world)
    kept = own.weights - own.resting
    if case.plan.states == "device":
        kept += own.master + own.moments + (own.gradients if case.plan.stage == 3 else 0)
    # A rank's share of the host's memory, and the buffers that stay: ZeRO-3's bucket, the way to the host.
    aside = on_host(shape, job, case.plan, World(ranks=world.ranks)).of("offloaded") // case.ranks
    bucket = job.element * min(job.bucket, trainable(shape, job)) if case.plan.stage == 3 else 0
    way = job.element * largest_trained(shape, job) if aside and case.plan.stage == 2 else 0
    return kept + aside + bucket + way, device.peak.bytes + aside


def _row(case: Case, counted: dict[str, Any]) -> Row:
    assert "error" not in counted, counted
    held, peak = predicted(case)
    world, calls = World(ranks=(case.ranks,)), counted["collectives"]
    made = Collectives(
        all_reduce=calls.get("all_reduce", 0),
        reduce=calls.get("reduce", 0),
        all_gather=calls.get("all_gather_into_tensor", 0),
        reduce_scatter=calls.get("reduce_scatter_tensor", 0),
    )
    return Row(
        case,
        held,
        counted["step"],
        peak,
        counted["peak"],
        traffic.of(of_config(MODELS[case.model]), case.job, case.plan, world).bytes,
        traffic.sent(made, case.job, world),
    )

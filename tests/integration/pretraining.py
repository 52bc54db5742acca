"""Starts train/pretrain.py the ways a person would, with a model small enough for a test."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve().parents[2] / "train" / "pretrain.py"
BIN = Path(sys.executable).parent
TINY = (
    *("--n_layer", "2", "--d_model", "64", "--n_head", "2", "--seq_len", "64", "--micro_batch", "2"),
    *("--eval_batches", "1", "--warmup", "2", "--dtype", "fp32"),
)
PATIENCE = 500  # below the time-out of a test, so that what was waited for is told


def free_port() -> int:
    """Below the ephemeral range: a port from within it is soon taken by some connection."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def torchrun(*arguments: object, ranks: int = 2, script: Path = SCRIPT) -> list[str]:
    """All ranks on this machine."""
    launcher = [f"--nproc-per-node={ranks}", f"--master-port={free_port()}"]
    return [str(BIN / "torchrun"), *launcher, str(script), *TINY, *map(str, arguments)]


def torchrun_nodes(*arguments: object, ranks: Sequence[int]) -> list[list[str]]:
    """One command per node, static node ranks, all meeting on this machine."""
    port = free_port()
    return [
        [
            str(BIN / "torchrun"),
            f"--nnodes={len(ranks)}",
            f"--node-rank={node}",
            f"--nproc-per-node={count}",
            "--master-addr=127.0.0.1",
            f"--master-port={port}",
            str(SCRIPT),
            *TINY,
            *map(str, arguments),
        ]
        for node, count in enumerate(ranks)
    ]


def alone(*arguments: object) -> list[str]:
    """A single process without any launcher."""
    return [sys.executable, str(SCRIPT), *TINY, *map(str, arguments)]


def environment(cache: Path, **variables: str) -> dict[str, str]:
    """The caller's, without what a launcher sets, and with the tokens kept in `cache`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "DS_ACCELERATOR", "OMP_NUM_THREADS")
    }
    return {**kept, "XDG_CACHE_HOME": str(cache), "GLOO_SOCKET_IFNAME": "lo", **variables}


def run(
    command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None, patience: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=env, cwd=cwd, capture_output=True, text=True, timeout=patience, check=False
    )


def run_together(
    commands: Sequence[Sequence[str]], env: Mapping[str, str], cwds: Sequence[Path]
) -> list[subprocess.CompletedProcess[str]]:
    """Run the commands of all nodes at the same time."""
    started = [
        subprocess.Popen(
            command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for command, cwd in zip(commands, cwds, strict=True)
    ]
    try:
        said = [process.communicate(timeout=PATIENCE)[0] for process in started]
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
                process.wait(PATIENCE)
    return [
        subprocess.CompletedProcess(process.args, process.returncode, output, "")
        for process, output in zip(started, said, strict=True)
    ]


def records(metrics: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def losses(metrics: Path) -> dict[int, float]:
    """Step to loss, to the last bit."""
    return {line["step"]: line["loss"] for line in records(metrics, "step")}

"""Training speed of one device for models of 124M to 1.3B parameters, beside a plain PyTorch loop.

    python bench/gpu.py [--sizes 124M 350M 760M 1.3B] [--minutes 9] [--record gpu.jsonl]
    python bench/gpu.py --device cpu --sizes tiny --no-compile      the same path where there is no GPU

ours    `train/`: its model and its step, bf16, attention of PyTorch, fused AdamW, torch.compile
plain   the same model as it is: bf16 autocast, AdamW as PyTorch has it, no compiler

Both search the micro-batch by doubling it while that is faster and fits; activations are computed again
only where not even one sample fits otherwise. A step is of --tokens, in as many passes as that needs. Every
trial is a line of --record as soon as it ends, so that a slice that --minutes ended is continued by the same
command: what is known is not measured again.

TFLOP/s are 6 N + 12 L d T per token, MFU their share of the device's dense bf16 peak (`train/flops.py`), n/a
for a device that is not in that table. Work that checkpointing repeats is not counted.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"n_layer": 2, "d_model": 64, "n_head": 2, "seq_len": 64, "vocab_size": 512},
    "124M": {"n_layer": 12, "d_model": 768, "n_head": 12, "seq_len": 1024, "vocab_size": 50_304},
    "350M": {"n_layer": 24, "d_model": 1024, "n_head": 16, "seq_len": 1024, "vocab_size": 50_304},
    "760M": {"n_layer": 24, "d_model": 1536, "n_head": 16, "seq_len": 2048, "vocab_size": 50_304},
    "1.3B": {"n_layer": 24, "d_model": 2048, "n_head": 16, "seq_len": 2048, "vocab_size": 50_304},
}
SIDES = ("plain", "ours")
LARGEST = 256
WARM_UP, MEASURED = 3, 8
SOME = 30.0
"""Seconds without which no trial is begun."""
Key = tuple[str, str, int, bool, bool]
Trial = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["124M", "350M", "760M", "1.3B"])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=9.0, help="then this slice ends")
    parser.add_argument("--tokens", type=int, default=131_072, help="of one optimizer step")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--record", type=Path, default=Path("gpu.jsonl"))
    parser.add_argument("--one", nargs=2, metavar=("SIZE", "SIDE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return search(args, *args.one)
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        print("there is no GPU here; --device cpu --sizes tiny tries the path without one", file=sys.stderr)
        return 64
    deadline = time.monotonic() + 60 * args.minutes
    whole = True
    for size in args.sizes:
        for side in SIDES:
            left = deadline - time.monotonic()
            if left < SOME:
                whole = False
                break
            words = [sys.executable, __file__, *sys.argv[1:], "--one", size, side]
            try:
                done = subprocess.run([*words, "--minutes", str(left / 60)], timeout=left, check=False)
                whole = whole and done.returncode == 0
            except subprocess.TimeoutExpired:
                whole = False
    print(table(args))
    if not whole:
        print("not all of it: the same command goes on from here")
    return 0 if whole else 1


def search(args: argparse.Namespace, size: str, side: str) -> int:
    """Trials of one side, each written down as it ends; 1 where some could not be made in time."""
    deadline = time.monotonic() + 60 * args.minutes
    known = {key(each): each for each in read(args.record) if mine(each, args)}

    def tried(micro_batch: int, *, recompute: bool, compiled: bool) -> Trial | None:
        """None where there was no time."""
        found = known.get((size, side, micro_batch, recompute, compiled))
        if found is None:
            if deadline - time.monotonic() < SOME:
                return None
            found = trial(args, size, side, micro_batch, recompute=recompute, compiled=compiled)
            with args.record.open("a") as stream:
                stream.write(json.dumps(found) + "\n")
            print(line(found), flush=True)
        return found

    best: Trial | None = None
    recompute = False
    for recompute in (False, True):
        for micro_batch in doublings(args, size):
            found = tried(micro_batch, recompute=recompute, compiled=False)
            if found is None:
                return 1
            if found["failed"] or (best and found["tokens_per_s"] < best["tokens_per_s"]):
                break
            best = found
        if best is not None:
            break
    if best is None or side == "plain" or not args.compile:
        return 0
    # What a compiler fuses is not kept: twice the batch may fit.
    for micro_batch in (best["micro_batch"], 2 * best["micro_batch"]):
        if tried(micro_batch, recompute=recompute, compiled=True) is None:
            return 1
    return 0


def doublings(args: argparse.Namespace, size: str) -> Iterator[int]:
    micro_batch = 1
    while micro_batch <= LARGEST and micro_batch * SIZES[size]["seq_len"] <= args.tokens:
        yield micro_batch
        micro_batch *= 2


def trial(
    args: argparse.Namespace, size: str, side: str, micro_batch: int, *, recompute: bool, compiled: bool
) -> Trial:
    """One way to train, timed; `failed` says why there are no figures."""
    import torch

    sys.path.insert(0, str(ROOT / "train"))
    import flops
    from model import GPT, GPTShape, parameter_count

    of = SIZES[size]
    shape = GPTShape(**of)
    device = torch.device(args.device, 0) if args.device == "cuda" else torch.device("cpu")
    passes = max(1, args.tokens // (micro_batch * of["seq_len"]))
    told: Trial = {
        "size": size,
        "side": side,
        "micro_batch": micro_batch,
        "passes": passes,
        "recompute": recompute,
        "compiled": compiled,
        "device": torch.cuda.get_device_name(device) if args.device == "cuda" else "cpu",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "failed": "",
    }
    gc.collect()
    if args.device == "cuda":
        torch.cuda.empty_cache()
    try:
        torch.manual_seed(0)
        model = GPT(shape, recompute=recompute).to(device)
        if side == "ours":
            step = ours(model, device, micro_batch, passes, compiled=compiled)
        else:
            step = plain(model, device, passes)
        batches = [
            torch.randint(of["vocab_size"], (2, micro_batch, of["seq_len"]), device=device)
            for _ in range(passes)
        ]
        seconds = timed(step, [(each[0], each[1]) for each in batches], device)
    except torch.OutOfMemoryError:
        return told | {"failed": "out of memory"}
    except Exception as error:  # noqa: BLE001 (a way that this machine cannot do is a result)
        return told | {"failed": f"{type(error).__name__}: {error}"[:300]}
    parameters = parameter_count(shape)
    rate = micro_batch * passes * of["seq_len"] / statistics.median(seconds)
    worked = rate * flops.per_token(shape, parameters)
    most = flops.peak(device)
    return told | {
        "parameters": parameters,
        "step_seconds": [round(each, 5) for each in seconds],
        "tokens_per_s": rate,
        "tflops": worked / 1e12,
        "mfu": worked / most if most else None,
        "peak_bytes": torch.cuda.max_memory_allocated(device) if args.device == "cuda" else None,
    }


def ours(model: Any, device: Any, micro_batch: int, passes: int, *, compiled: bool) -> Callable[[Any], Any]:
    """The step of `train/pretrain.py --strategy ddp`."""
    import ddp

    if compiled:
        model.compile()
    config = {
        "optimizer": {"type": "AdamW", "params": {"lr": 3e-4, "weight_decay": 0.1, "fused": True}},
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": passes,
        "gradient_clipping": 1.0,
    }
    engine = ddp.build(model, config, dtype="bf16", warmup=10, decay_steps=1000, place=alone(device.type))
    return engine.step


@functools.cache
def alone(kind: str) -> Any:
    """The place of the only rank there is."""
    import ranks

    os.environ["DS_ACCELERATOR"] = kind
    return ranks.join(None)


def plain(model: Any, device: Any, passes: int) -> Callable[[Any], Any]:
    """What one writes first."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1)

    def step(batches: Any) -> Any:
        for inputs, targets in batches:
            with torch.autocast(device.type, torch.bfloat16):
                loss = model(inputs, targets)
            (loss / passes).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def timed(step: Callable[[Any], Any], batches: list[Any], device: Any) -> list[float]:
    """Seconds of each step after the warm-up."""
    import torch

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(WARM_UP + MEASURED):
        wait()
        began = time.perf_counter()
        step(batches)
        wait()
        seconds.append(time.perf_counter() - began)
    return seconds[WARM_UP:]


def key(of: Trial) -> Key:
    return of["size"], of["side"], of["micro_batch"], of["recompute"], of["compiled"]


def read(record: Path) -> list[Trial]:
    return [json.loads(text) for text in record.read_text().splitlines()] if record.exists() else []


def mine(of: Trial, args: argparse.Namespace) -> bool:
    """Whether a recorded trial is of this device and this PyTorch."""
    import torch

    name = torch.cuda.get_device_name(0) if args.device == "cuda" else "cpu"
    return bool(of["device"] == name and of["torch"] == torch.__version__)


def line(of: Trial) -> str:
    how = " compiled" * of["compiled"] + " checkpointed" * of["recompute"]
    said = (
        of["failed"] or f"{of['tokens_per_s']:,.0f} tokens/s, {of['tflops']:.3g} TFLOP/s, MFU {percent(of)}"
    )
    return f"{of['size']:>5} {of['side']:<5} {of['micro_batch']:>3} x {of['passes']}{how}: {said}"


def percent(of: Trial) -> str:
    return "n/a" if of["mfu"] is None else f"{of['mfu']:.1%}"


def table(args: argparse.Namespace) -> str:
    """The best trial of each side."""
    rows = [each for each in read(args.record) if mine(each, args) and not each["failed"]]
    said = [f"{'':>5} {'':<5}  batch   tokens/s   TFLOP/s    MFU  memory  times plain"]
    for size in args.sizes:
        base = 0.0
        for side in SIDES:
            own = [each for each in rows if (each["size"], each["side"]) == (size, side)]
            if not own:
                said.append(f"{size:>5} {side:<5}  not measured")
                continue
            best = max(own, key=lambda each: float(each["tokens_per_s"]))
            base = base or best["tokens_per_s"]
            memory = f"{best['peak_bytes'] / 1e9:.1f} GB" if best["peak_bytes"] else "n/a"
            said.append(
                f"{size:>5} {side:<5} {best['micro_batch']:>3} x {best['passes']:<3} "
                f"{best['tokens_per_s']:>9,.0f} {best['tflops']:>9.3g} {percent(best):>6} {memory:>7} "
                f"{best['tokens_per_s'] / base:>8.2f}"
            )
    return "\n".join(said)


if __name__ == "__main__":
    sys.exit(main())

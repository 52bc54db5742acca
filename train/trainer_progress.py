"""What a fine-tuning says while it runs, and when it stops early: a signal, or numbers that are none."""

from __future__ import annotations

import math
import time
from typing import Any

from transformers import TrainerCallback

from errors import Diverged
from metrics import perplexity
from progress import clock, memory_text, say
from ranks import Place, gather
from stopping import StopRequest


class Progress(TrainerCallback):  # type: ignore[misc]
    """Lines on rank 0. `stopped_by` is the signal that ended the run before its last step, else 0.

    Raises Diverged on all ranks, before anything of that state is saved.
    """

    def __init__(self, place: Place, stop: StopRequest, *, log_every: int, heldout: int, skips: bool) -> None:
        self.place = place
        self.stop = stop
        self.log_every = log_every
        self.heldout = heldout
        # fp16 skips a step that overflowed and goes on with a smaller scale.
        self.skips = skips
        self.stopped_by = 0
        self.evaluations: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.began = self.line_at = time.monotonic()
        self.first = state.global_step
        # A checkpoint's state brings the intervals of the run that wrote it.
        state.compute_steps(args, state.max_steps)
        self.line_tokens = state.num_input_tokens_seen

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        signals = gather(self.stop.signal)
        self.stopped_by = next(filter(None, signals), 0)
        if self.stopped_by:
            control.should_save = control.should_training_stop = True

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if not logs or "loss" not in logs:
            return
        step, loss, norm = state.global_step, logs["loss"], logs.get("grad_norm", 0.0)
        if not math.isfinite(loss) or not (math.isfinite(norm) or self.skips):
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradients' norm is {norm}"
            raise Diverged(
                f"{what} at step {step}: nothing of it is saved\n"
                "hint: a smaller --lr, or --dtype bf16 or fp32; earlier checkpoints are as they were"
            )
        if self.place.is_first and (step % self.log_every == 0 or step in (self.first + 1, state.max_steps)):
            self._line(state, loss, logs["learning_rate"], norm)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if metrics and "eval_loss" in metrics:
            loss = metrics["eval_loss"]
            self.evaluations.append(loss)
            self.note(
                f"eval {state.global_step}/{state.max_steps}  loss {loss:.4f}  perplexity"
                f" {perplexity(loss):,.2f}  on {self.heldout:,} held-out answer tokens"
            )
        self.line_at = time.monotonic()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.note(f"saved {args.output_dir}/checkpoint-{state.global_step}")

    def note(self, line: str) -> None:
        if self.place.is_first:
            say(line)

    def _line(self, state: Any, loss: float, lr: float, norm: float) -> None:
        now, step = time.monotonic(), state.global_step
        rate = (state.num_input_tokens_seen - self.line_tokens) / max(now - self.line_at, 1e-9)
        left = (state.max_steps - step) * (now - self.began) / (step - self.first)
        each = "rank" if self.place.on_cpu else "gpu"
        say(
            f"step {step:>{len(str(state.max_steps))}}/{state.max_steps}  loss {loss:.4f}  lr {lr:.1e}"
            f"  grad {norm:.2f}  tok/s {rate:,.0f} ({rate / self.place.world_size:,.0f}/{each})"
            f"  {memory_text(self.place)}  ETA {clock(left)}"
        )
        self.line_at, self.line_tokens = now, state.num_input_tokens_seen

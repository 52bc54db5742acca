"""The numbers of a Hugging Face Trainer as JSON lines, one a step, where `CLUSTERCTL_METRICS` asks for them.

Needs metrics.py beside it and nothing else of this directory: copy both beside a script of your own and say
`Trainer(..., callbacks=[MetricsCallback()])`.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import TrainerCallback

from metrics import from_environment

NAMES = {"loss": "loss", "learning_rate": "lr", "grad_norm": "grad_norm", "eval_loss": "eval_loss"}


class MetricsCallback(TrainerCallback):  # type: ignore[misc]
    """Tells of each step: time, waiting for data, tokens, peak memory, and what the Trainer logs of it.

    Loss and norm come when the Trainer logs (`logging_steps=1` for every step), and are those of all ranks;
    tokens are counted where `include_num_input_tokens_seen` is on, and are the mean over ranks.
    """

    def __init__(self) -> None:
        self.file = from_environment()
        self.record: dict[str, Any] = {}
        self.since = time.monotonic()
        self.waited = 0.0
        self.tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.tokens = state.num_input_tokens_seen
        self.since = time.monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._write()
        self.waited = time.monotonic() - self.since

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.monotonic()
        self.record = {"step": state.global_step, "step_s": now - self.since, "data_s": self.waited}
        seen = state.num_input_tokens_seen - self.tokens
        if seen:
            self.record["tokens"] = round(seen / args.world_size)
        if torch.cuda.is_available():
            self.record["peak_bytes"] = torch.cuda.max_memory_allocated()
        self.tokens, self.since = state.num_input_tokens_seen, now

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if state.global_step == 0:
            return
        told = {NAMES[name]: value for name, value in (logs or {}).items() if name in NAMES}
        if told:
            self.record = {"step": state.global_step, **self.record, **told}
            self._write()

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.since = time.monotonic()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.since = time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._write()

    def _write(self) -> None:
        if self.file and self.record:
            self.file.write(**self.record)
        self.record = {}

"""Hugging Face's Trainer for conversations: its held-out loss is a mean over the answers' tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from transformers import (
    DataCollatorForSeq2Seq,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import SAFE_WEIGHTS_NAME

import chat
from lessons import Lesson
from trainer_checkpoint import is_checkpoint
from trainer_metrics import MetricsCallback


class ConversationTrainer(Trainer):  # type: ignore[misc]
    def evaluation_loop(self, *arguments: Any, **options: Any) -> Any:
        output = super().evaluation_loop(*arguments, **options)
        # The Trainer's own is a mean over batches, which depends on how many ranks share them.
        output.metrics["eval_loss"] = output.metrics.pop("eval_loss_per_token")
        return output

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # ZeRO-3 gathers on rank 0 only; what another host would save is an empty file.
        if not (self.is_deepspeed_enabled and state_dict is None):
            super()._save(output_dir, state_dict)
        path = Path(output_dir or self.args.output_dir)
        by_ddp = self.args.should_save and not self.is_deepspeed_enabled
        if by_ddp and is_checkpoint(path) and not any(path.glob("*.safetensors")):
            # transformers has rank 0 alone write a whole model, and each host goes on from its own disk.
            save_model(self.model, str(path / SAFE_WEIGHTS_NAME), metadata={"format": "pt"})


def build(
    model: Any, settings: TrainingArguments, lesson: Lesson, callbacks: Sequence[TrainerCallback]
) -> ConversationTrainer:
    """Collective."""
    trainer = ConversationTrainer(
        model=model,
        args=settings,
        train_dataset=_rows(lesson.training),
        eval_dataset=_rows(lesson.heldout) if lesson.heldout else None,
        processing_class=lesson.tokenizer,
        data_collator=DataCollatorForSeq2Seq(lesson.tokenizer, label_pad_token_id=chat.IGNORED),
        compute_metrics=_per_token,
        preprocess_logits_for_metrics=_answer_losses,
        callbacks=[MetricsCallback(), *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _rows(examples: chat.Examples) -> list[dict[str, list[int]]]:
    return [
        {"input_ids": each.input_ids, "labels": each.labels, "attention_mask": [1] * len(each.input_ids)}
        for each in examples.kept
    ]


def _answer_losses(logits: Any, labels: torch.Tensor) -> torch.Tensor:
    """Of each conversation the loss summed over its answers' tokens, and their number."""
    logits = logits[0] if isinstance(logits, tuple) else logits
    following = labels[:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), following.flatten(), reduction="none", ignore_index=chat.IGNORED
    )
    return torch.stack(
        [losses.view(following.shape).sum(1), (following != chat.IGNORED).sum(1).float()], dim=1
    )


def _per_token(prediction: Any) -> dict[str, float]:
    loss, tokens = prediction.predictions.sum(0, dtype="float64")
    return {"loss_per_token": float(loss / tokens)}

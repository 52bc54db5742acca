"""Putting a fine-tuning together: data, model and Hugging Face's Trainer, which does the training."""

from __future__ import annotations

import hashlib
import os
import random
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from transformers import DataCollatorForSeq2Seq, PrinterCallback, Trainer, TrainingArguments

import chat
import conversations
import trainer_settings
import weights
from checkpoint import each_host_has_its_own
from errors import Diverged, UserError
from precision import choose
from progress import memory_text, say
from ranks import Place, fail_together, gather, join, leave
from stopping import StopRequest, end_at_once_on_ctrl_c
from trainer_metrics import MetricsCallback
from trainer_progress import Progress

CHECKPOINT = re.compile(r"checkpoint-(\d+)")
Answer = TypeVar("Answer")


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


def run(args: Any) -> int:
    """Fine-tune as asked; the exit code of this rank. Collective; raises UserError, Diverged."""
    end_at_once_on_ctrl_c()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # Names that transformers 6 will not know; those that it will are not in every 5.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    place = join(args.local_rank)
    # accelerate would count the machine's cores, not those of this rank.
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    say(f"rank {place.rank} of {place.world_size} on {place.host}: {place.device}, pid {os.getpid()}")
    lesson = _together(lambda: _lesson(args, place))
    _require_equal(lesson.digest, place)
    dtype, reason = choose(args.dtype, place)
    if args.method == "qlora":
        _together(lambda: weights.require_nf4(place))
    save_dir = Path(args.save_dir).expanduser().resolve()
    node_local = each_host_has_its_own(save_dir, place)
    settings = _together(
        lambda: trainer_settings.make(
            args,
            lesson.config,
            place,
            conversations=len(lesson.training.kept),
            evaluates=lesson.heldout is not None,
            dtype=dtype,
            save_dir=save_dir,
            node_local=node_local,
        )
    )
    checkpoint = _checkpoint(args.resume, save_dir, place, sharded=settings.deepspeed is not None)
    settings.eval_on_start = lesson.heldout is not None and checkpoint is None
    stage = trainer_settings.stage(settings)
    if stage is not None:
        import zero

        zero.prepare(place)
    pad = lesson.tokenizer.pad_token_id
    model = _together(lambda: weights.load(args, dtype=dtype, stage=stage, pad=pad, place=place))
    if place.is_first:
        _introduce(args, lesson, model, settings, place, f"{dtype} ({reason})")
    stop = StopRequest()
    stop.listen()
    heldout = lesson.heldout.learned if lesson.heldout else 0
    progress = Progress(place, stop, log_every=args.log_every, heldout=heldout, skips=dtype == "fp16")
    trainer = _ConversationTrainer(
        model=model,
        args=settings,
        train_dataset=_rows(lesson.training),
        eval_dataset=_rows(lesson.heldout) if lesson.heldout else None,
        processing_class=lesson.tokenizer,
        data_collator=DataCollatorForSeq2Seq(lesson.tokenizer, label_pad_token_id=chat.IGNORED),
        compute_metrics=_per_token,
        preprocess_logits_for_metrics=_answer_losses,
        callbacks=[MetricsCallback(), progress],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    if progress.stopped_by:
        progress.note(
            f"stopped by signal {progress.stopped_by}; --resume auto goes on from the last checkpoint"
        )
        leave()
        return 128 + progress.stopped_by
    if lesson.heldout and not (args.eval_every and trainer.state.global_step % args.eval_every == 0):
        trainer.evaluate()
    _save(trainer, save_dir, args.model, progress, place)
    say(
        f"rank {place.rank} on {place.host}: done after {trainer.state.global_step} steps,"
        f" {memory_text(place)}"
    )
    leave()
    return 0


class _ConversationTrainer(Trainer):  # type: ignore[misc]
    def evaluation_loop(self, *arguments: Any, **options: Any) -> Any:
        output = super().evaluation_loop(*arguments, **options)
        # The Trainer's own is a mean over batches, which depends on how many ranks share them.
        output.metrics["eval_loss"] = output.metrics.pop("eval_loss_per_token")
        return output

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # ZeRO-3 gathers on rank 0 only; what another host would save is an empty file.
        if not (self.is_deepspeed_enabled and state_dict is None):
            super()._save(output_dir, state_dict)


def _lesson(args: Any, place: Place) -> Lesson:
    """Read and encode everything; this comes before the model, so that a bad line costs no loading."""
    config, tokenizer = weights.describe(args.model, place)
    template = Path(args.chat_template).read_text(encoding="utf-8") if args.chat_template else None
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


def _require_equal(digest: str, place: Place) -> None:
    views = gather((digest, place.host))
    other = next((host for view, host in views if view != views[0][0]), None)
    if other:
        raise UserError(
            f"{other} has other data, or another tokenizer, than {views[0][1]}",
            hint="copy --data and --model to all hosts again",
        )


def _checkpoint(resume: str | None, save_dir: Path, place: Place, *, sharded: bool) -> Path | None:
    """The newest checkpoint that is whole on all ranks, or the one that was named. Collective."""
    if resume is None:
        return None
    root = save_dir if resume == "auto" else Path(resume).expanduser().resolve()
    if CHECKPOINT.fullmatch(root.name):
        root, names = root.parent, [root.name]
    else:
        names = [path.name for path in root.glob("checkpoint-*") if CHECKPOINT.fullmatch(path.name)]
    # The Trainer writes its state last, and each of several ranks a file of its own.
    mine = f"rng_state_{place.rank}.pth" if place.world_size > 1 else "rng_state.pth"
    needed = ("trainer_state.json", mine) if sharded else ("trainer_state.json",)
    whole = {name for name in names if all((root / name / file).is_file() for file in needed)}
    seen: set[str] = set().union(*gather(set(names)))
    common: set[str] = set.intersection(*gather(whole))
    if not common:
        if resume == "auto" and not seen:
            return None
        raise UserError(
            f"no checkpoint in {root} is whole for {place.world_size} ranks",
            hint="start as many ranks, and the hosts in the same order, as in the run that wrote it",
        )
    newest = root / max(common, key=_step)
    if place.is_first and max(seen, key=_step) != newest.name:
        say(f"{max(seen, key=_step)} is passed over: it is not whole on all ranks")
    more = any(gather((newest / f"rng_state_{place.world_size}.pth").exists()))
    if sharded and more:
        raise UserError(
            f"{newest.name} was written by more ranks than the {place.world_size} of this run",
            hint="DeepSpeed resumes on as many ranks only; --strategy ddp on any number",
        )
    return newest


def _step(name: str) -> int:
    return int(name.partition("-")[2])


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


def _save(trainer: Trainer, save_dir: Path, original: str, progress: Progress, place: Place) -> None:
    """Write the adapter or model, open it again, and say what is there. Collective."""
    # Off while training, and who loads the model wants it.
    trainer.model.config.use_cache = True
    trainer.save_model(str(save_dir))
    problem = None
    if place.is_first:
        try:
            say(f"saved {save_dir} on {place.host}")
            say(f"checked {weights.prove(save_dir, original)}")
        except weights.NothingLearned as error:
            problem = str(error)
    if found := gather(problem)[0]:
        raise Diverged(
            f"{found}\nhint: --lr 0 or an old transformers and peft do that; do not use this directory"
        )
    if len(progress.evaluations) > 1:
        first, last = progress.evaluations[0], progress.evaluations[-1]
        progress.note(f"held-out loss {first:.4f} before, {last:.4f} after")


def _together(work: Callable[[], Answer]) -> Answer:
    """`work` of this rank, where it succeeds on all of them. Collective."""
    answer, problem = None, None
    try:
        answer = work()
    except UserError as error:
        problem = error
    fail_together(problem)
    return answer  # type: ignore[return-value]


def _introduce(
    args: Any, lesson: Lesson, model: Any, settings: TrainingArguments, place: Place, precision: str
) -> None:
    training, heldout = lesson.training, lesson.heldout
    if args.method == "full":
        learned = base = sum(getattr(each, "ds_numel", each.numel()) for each in model.parameters())
    else:
        learned, every = model.get_nb_trainable_parameters()
        base = every - learned
    method = "all of it" if args.method == "full" else f"{args.method}, rank {args.lora_rank}"
    held = f", {len(heldout.kept):,} held out" if heldout else ""
    batch = settings.per_device_train_batch_size, place.world_size, settings.gradient_accumulation_steps
    facts = {
        "model": f"{args.model}: {base / 1e6:,.1f} M parameters",
        "method": f"{method}: {learned / 1e6:,.1f} M trained ({learned / base:.1%})",
        "data": f"{args.data}: {len(training.kept):,} conversations{held}",
        "tokens": f"{training.tokens:,}, of which {training.learned:,} are answers and learned",
        "template": lesson.template,
        "batch": "{} conversations x {} ranks x {} accumulated = {} per step".format(
            *batch, batch[0] * batch[1] * batch[2]
        ),
        "engine": f"{_engine(args, settings)}, {precision}",
        "ranks": f"{place.world_size}, {place.device.type} over {place.backend}",
    }
    for name, value in facts.items():
        say(f"{name:<8}  {value}")
    for line in _remarks(training, lesson.longest):
        say(f"note      {line}")


def _engine(args: Any, settings: TrainingArguments) -> str:
    if not settings.deepspeed:
        return "torch DistributedDataParallel"
    import deepspeed

    stage = trainer_settings.stage(settings)
    return f"DeepSpeed {deepspeed.__version__}, ZeRO stage {stage} ({Path(args.deepspeed).name})"


def _remarks(examples: chat.Examples, longest: int) -> Iterable[str]:
    if examples.cut:
        yield f"{examples.cut:,} conversations are longer than {longest:,} tokens and cut"
    if examples.dropped:
        yield f"{examples.dropped:,} of them are left out: the cut is before the answer"
    if examples.unlearned:
        yield f"{examples.unlearned:,} earlier answers are not learned: the template rewrites them later on"

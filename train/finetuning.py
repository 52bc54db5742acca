"""Putting a fine-tuning together: data, model and Hugging Face's Trainer, which does the training."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from transformers import Trainer, TrainingArguments

import conversation_trainer
import lessons
import trainer_checkpoint
import trainer_restoring
import trainer_settings
import weights
from checkpoint import each_host_has_its_own
from errors import Diverged, UserError
from lessons import Lesson
from precision import choose
from progress import memory_text, say
from ranks import Place, fail_together, gather, join, leave
from stopping import StopRequest, end_at_once_on_ctrl_c
from trainer_checkpoint import Recording, Store
from trainer_progress import Progress

Answer = TypeVar("Answer")


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
    lesson = _together(lambda: lessons.read(args, place))
    lessons.require_equal(lesson, place)
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
    facts = trainer_checkpoint.facts(args, settings, data=lesson.digest, dtype=dtype, place=place)
    store = Store(directory=save_dir, place=place, node_local=node_local, keep=args.keep, facts=facts)
    checkpoint = trainer_restoring.newest(args.resume, store)
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
    trainer = conversation_trainer.build(model, settings, lesson, [Recording(store), progress])
    trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    if progress.stopped_by:
        progress.note(
            f"stopped by signal {progress.stopped_by}; --resume auto goes on from the last checkpoint"
        )
        leave()
        return 128 + progress.stopped_by
    if lesson.heldout and not (args.eval_every and trainer.state.global_step % args.eval_every == 0):
        trainer.evaluate()
    _save(trainer, save_dir, args.model, progress, place, adapter=args.method != "full")
    say(
        f"rank {place.rank} on {place.host}: done after {trainer.state.global_step} steps,"
        f" {memory_text(place)}"
    )
    leave()
    return 0


def _save(
    trainer: Trainer, save_dir: Path, original: str, progress: Progress, place: Place, *, adapter: bool
) -> None:
    """Write the adapter or model, open it again, and say what is there. Collective."""
    # Off while training, and who loads the model wants it.
    trainer.model.config.use_cache = True
    trainer.save_model(str(save_dir))
    problem = None
    if place.is_first:
        try:
            if adapter:
                base = json.dumps(weights.shape(trainer.model.config), indent=2)
                (save_dir / weights.BASE).write_text(base + "\n", encoding="utf-8")
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
    for line in lesson.remarks:
        say(f"note      {line}")


def _engine(args: Any, settings: TrainingArguments) -> str:
    if not settings.deepspeed:
        return "torch DistributedDataParallel"
    import deepspeed

    stage = trainer_settings.stage(settings)
    return f"DeepSpeed {deepspeed.__version__}, ZeRO stage {stage} ({Path(args.deepspeed).name})"

"""What DeepSpeed, transformers and peft refuse in a script: most of it stands in some tutorial."""

from __future__ import annotations

from clusterctl.advise.signature import Signature

FRAMEWORKS = (
    Signature(
        code="deepspeed.key",
        sign=("Extra inputs are not permitted",),
        near=r"validation errors? for (?:DeepSpeed\w*|\w+Config)",
        means="ds_config has a key that DeepSpeed does not know, and refuses",
        hint="clusterctl lint FILE names its line, and what was meant",
    ),
    Signature(
        code="deepspeed.mismatch",
        sign=("config values that mismatch TrainingArguments",),
        means="ds_config and TrainingArguments say different things: the lines below name them",
        hint='"auto" in place of each in ds_config; clusterctl lint FILE -- ARGS finds them beforehand',
    ),
    Signature(
        code="deepspeed.no-zero",
        sign=("Please specify the ZeRO optimization config",),
        means="transformers takes no ds_config without zero_optimization",
        hint='"zero_optimization": {"stage": 2} in it; {"stage": 0} is none',
    ),
    Signature(
        code="deepspeed.dataset",
        sign=("Training data must be a torch Dataset",),
        means="deepspeed.initialize got a DataLoader as training_data, and wants the Dataset",
        hint="training_data=dataset, and the loader that it returns; or leave training_data out",
    ),
    Signature(
        code="deepspeed.step-lr",
        sign=("has no attribute 'step_lr'",),
        means="an engine of DeepSpeed has no step_lr()",
        hint="leave it out: engine.step() moves the schedule as well",
    ),
    Signature(
        code="transformers.no-loss",
        sign=("'NoneType' object has no attribute 'backward'", "loss must be a scalar tensor"),
        means="the loss is no number to go back from: it is None, or one for each example",
        hint="models of transformers have a loss only where they get labels=...; of several, take the mean",
    ),
    Signature(
        code="transformers.argument",
        sign=(
            "TrainingArguments.__init__() got an unexpected",
            "Trainer.__init__() got an unexpected",
        ),
        pattern=r"(?P<class>\w+)\.__init__\(\) got an unexpected keyword argument '(?P<name>\w+)'",
        means="{class} of the transformers on {host} has no {name}",
        hint="in 5 evaluation_strategy is eval_strategy, tokenizer processing_class, warmup_ratio "
        "warmup_steps, and overwrite_output_dir is gone; or pip install 'transformers<5' on every host",
    ),
    Signature(
        code="transformers.device-map",
        sign=("in any distributed mode", "is not compatible with passing a `device_map`"),
        pattern=r"device_map",
        means="device_map spreads one model over the GPUs of one process, and here each rank has its own",
        hint='leave device_map out; for QLoRA without ZeRO-3: device_map={"": LOCAL_RANK}',
    ),
    Signature(
        code="peft.merge",
        sign=("cannot import name 'merge_and_unload'",),
        means="merge_and_unload is a method of a peft model, no function of the package",
        hint="model = model.merge_and_unload()",
    ),
)

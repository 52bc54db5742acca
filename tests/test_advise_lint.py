"""What lint says of configs: those of tutorials that fail, those that are right, and anything at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterctl.advise.lint import transformers
from clusterctl.advise.lint.batch import Sizes, complete
from clusterctl.advise.lint.case import Case, Machines, Reader, Remark, Situation
from clusterctl.advise.lint.judge import judge
from clusterctl.advise.lint.text import UnreadableError, read
from clusterctl.session.schemas import recorded

SCHEMA = recorded()
ROOT = Path(__file__).parents[1]
ADAM = {"type": "Adam", "params": {"lr": 0.001}}


def lint(
    config: str | dict[str, Any],
    *,
    ranks: int | None = 1,
    reader: Reader = "deepspeed",
    arguments: Sequence[str] = (),
    cpu: bool = False,
    gpu_memory: int | None = None,
    lockable: int | None = None,
) -> tuple[Remark, ...]:
    document = read(config if isinstance(config, str) else json.dumps(config, indent=2))
    situation = Situation(
        ranks=ranks,
        reader=reader,
        flags=transformers.flags(arguments),
        machines=Machines(cpu=cpu, gpu_memory=gpu_memory, lockable=lockable),
    )
    return judge(Case(document=document, schema=SCHEMA, situation=situation))


def told(remarks: Sequence[Remark], severity: str) -> list[str]:
    return [
        f"{each.line}: {each.finding.observed} => {each.finding.fix}"
        for each in remarks
        if each.finding.severity == severity
    ]


def test_the_equation_of_batches_with_its_numbers() -> None:
    config = {
        "train_batch_size": 64,
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 1,
    }
    assert told(lint(config), "fail") == [
        "2: train_batch_size is 64, but 4 (micro batch) x 1 (accumulation) x 1 (ranks) is 4 => "
        '"train_batch_size": 4, or leave it out where the other two are given\n'
        '"gradient_accumulation_steps": 16 keeps train_batch_size 64'
    ]


@pytest.mark.parametrize(
    ("ranks", "train", "micro", "steps"),
    [(1, 32, 4, 8), (4, 32, 4, 2), (1, 8, None, 8), (2, 32, 16, 1), (2, 32, 8, 2), (3, None, 4, 2)],
)
def test_batches_that_are_right(ranks: int, train: int, micro: int, steps: int) -> None:
    assert not lint(batches(train, micro, steps), ranks=ranks)


@pytest.mark.parametrize(
    ("ranks", "train", "micro", "steps", "sentence"),
    [
        (4, 32, 4, 8, "train_batch_size is 32, but 4 (micro batch) x 8 (accumulation) x 4 (ranks) is 128"),
        (8, 32, 4, 2, "train_batch_size is 32, but 4 (micro batch) x 2 (accumulation) x 8 (ranks) is 64"),
        (2, 8, None, 8, "train_batch_size 8 cannot be N x 8 (accumulation) x 2 (ranks)"),
        (2, 33, 17, None, "train_batch_size 33 cannot be 17 (micro batch) x N x 2 (ranks)"),
        (2, 33, None, None, "train_batch_size 33 cannot be divided by 2 ranks"),
        (2, None, None, 4, "neither train_batch_size nor train_micro_batch_size_per_gpu is given"),
        (2, 0, 1, 1, "train_batch_size is 0, not a whole number above 0"),
    ],
)
def test_batches_of_tutorials_on_other_numbers_of_ranks(
    ranks: int, train: int | None, micro: int | None, steps: int | None, sentence: str
) -> None:
    [found] = told(lint(batches(train, micro, steps), ranks=ranks), "fail")
    assert sentence in found


def batches(train: int | None, micro: int | None, steps: int | None) -> dict[str, Any]:
    names = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    pairs = zip(names, (train, micro, steps), strict=True)
    return {name: value for name, value in pairs if value is not None}


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))
def test_two_of_the_three_give_the_third(train: int, micro: int, steps: int, ranks: int) -> None:
    whole = micro * steps * ranks
    for given_sizes in (Sizes(whole, micro, None), Sizes(whole, None, steps), Sizes(None, micro, steps)):
        assert complete(given_sizes, ranks) == Sizes(whole, micro, steps)
    for remark in lint(batches(train, micro, steps), ranks=ranks):
        fixed = json.loads("{" + remark.finding.fix.split(",")[0] + "}")
        assert not lint({**batches(train, micro, steps), **fixed}, ranks=ranks)


def test_without_a_number_of_ranks_the_file_says_for_how_many_it_is() -> None:
    assert told(lint(batches(32, 4, 2), ranks=None), "info") == [
        "2: train_batch_size 32 = 4 x 2 x ranks holds for 4 ranks only; --ranks N checks it => "
    ]
    [never] = told(lint(batches(33, 4, 2), ranks=None), "fail")
    assert "holds for no number of ranks" in never


def test_unknown_keys_are_told_apart_by_what_deepspeed_does_with_them() -> None:
    config = {
        "train_batch_size": 8,
        "communication_timeout": 1800,
        "gradient_cliping": 1.0,
        "offload_optimizer": {"device": "cpu"},
        "zero_optimization": {"stage": 2, "offload_gradients": True, "reduce_bucket_sise": 5},
        "flops_profiler": {"enable": True},
        "activation_checkpointing": {"partition_activation": True},
    }
    remarks = lint(config)
    assert told(remarks, "fail") == [
        '10: zero_optimization has no "offload_gradients" and refuses what it does not know => '
        "leave it out: gradients go with offload_optimizer",
        '11: zero_optimization has no "reduce_bucket_sise" and refuses what it does not know => '
        'did you mean "reduce_bucket_size"?',
    ]
    assert told(remarks, "warn") == [
        '3: DeepSpeed has no "communication_timeout" and ignores it without a word => '
        "$DEEPSPEED_TIMEOUT, in minutes; transformers has --ddp_timeout SECONDS",
        '4: DeepSpeed has no "gradient_cliping" and ignores it without a word => '
        'did you mean "gradient_clipping"?',
        '5: DeepSpeed has no "offload_optimizer" and ignores it without a word => '
        "it belongs inside zero_optimization",
        '14: flops_profiler has no "enable" and ignores it without a word => did you mean "enabled"?',
        '17: activation_checkpointing has no "partition_activation" and ignores it without a word => '
        'did you mean "partition_activations"?',
    ]


ONE: dict[str, Any] = {"train_batch_size": 8}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"fp16": {"enabled": True}, "bf16": {"enabled": True}}, "fp16 and bf16 are both enabled"),
        ({"gradient_accumulation_steps": "auto"}, 'gradient_accumulation_steps is "auto", which only'),
        ({"optimizer": {"type": "Adam", "params": {"lr": "auto"}}}, 'optimizer.params.lr is "auto", which'),
        ({"scheduler": {"type": "WarmupDecayLR", "params": {}}}, "WarmupDecayLR without total_num_steps"),
        (
            {"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 0}}},
            "warmup_num_steps is 0, and must be a whole number above 0",
        ),
        ({"scheduler": {"type": "WarmupLR"}}, "scheduler.params is not there"),
        ({"scheduler": {"type": "warmuplr", "params": {}}}, 'did you mean "WarmupLR"?'),
        ({"scheduler": {"type": "WarmupLR", "params": {"warmup_steps": 3}}}, 'takes no "warmup_steps"'),
        ({"optimizer": {"type": "AdmW", "params": {}}}, 'did you mean "AdamW"?'),
        ({"optimizer": {"type": "Adam", "params": {"learning_rate": 1}}}, 'Adam takes no "learning_rate"'),
        ({"optimizer": {"type": "Adam", "params": {"max_grad_norm": 1}}}, '"gradient_clipping" at the top'),
        (
            {"optimizer": {"type": "SGD", "params": {"lr": 1}}, "zero_optimization": {"stage": 1}},
            'ZeRO refuses "SGD" unless it is allowed',
        ),
        (
            {"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}},
            'offload_param.device is "nvme", and nvme_path is not there',
        ),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu", "ratio": 0.3}}},
            "ratio 0.3: a part can be offloaded at ZeRO stage 3 only",
        ),
        ({"zero_optimization": {"stage": 5}}, "zero_optimization.stage is 5, not 0, 1, 2, 3"),
        ({"zero_optimization": {"stage": "two"}}, 'zero_optimization.stage is "two", not 0, 1, 2, 3'),
        ({"zero_optimization": {"reduce_bucket_size": 0}}, "reduce_bucket_size is 0, and must be above 0"),
        ({"zero_optimization": {"overlap_comm": "perhaps"}}, 'is "perhaps", not true or false'),
        ({"zero_optimization": {"stage": 2, "allgather_bucket_size": 1001}}, "1001 is odd"),
        ({"zero_optimization": {"mics_shard_size": 2}}, "zero_optimization.mics_shard_size was removed"),
        ({"zero_optimization": {"offload_param": {"devise": "cpu"}}}, 'did you mean "device"?'),
        (
            {"zero_optimization": {"cpu_offload": True, "offload_optimizer": {"device": "cpu"}}},
            "zero_optimization.cpu_offload and offload_optimizer, which has taken its place, are both there",
        ),
        ({"zero_optimization": None}, "zero_optimization is null, not an object"),
        ({"fp16": True}, "fp16 is true, not an object"),
        ({"amp": {"enabled": True}}, "amp was removed from DeepSpeed"),
        ({"communication_data_type": "fp8"}, 'communication_data_type is "fp8", not fp16, bf16 or fp32'),
        ({"fp16": {"enabled": True, "loss_scale": -1}}, "fp16.loss_scale is -1"),
        ({"fp16": {"enabled": True, "min_loss_scale": 0}}, "fp16.min_loss_scale is 0, and must be above 0"),
        ({"gradient_clipping": "1.0"}, 'gradient_clipping is "1.0", not a number'),
        (
            {"gradient_allreduce_op": "sum", "zero_optimization": {"stage": 3}},
            "does not go with ZeRO stage 3",
        ),
        ({"bf16": {"enabled": True, "bf16_optimizer_states": True}}, "needs bf16_master_weights_and_grads"),
    ],
)
def test_what_would_fail(config: dict[str, Any], sentence: str) -> None:
    found = told(lint({**ONE, **config}), "fail")
    assert len(found) == 1 and sentence in found[0], found


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}},
            "offload_param does nothing at ZeRO stage 2: it is of stage 3 only",
        ),
        (
            {"zero_optimization": {"stage": 0, "offload_optimizer": {"device": "cpu"}}},
            "offload_optimizer at ZeRO stage 0: nothing is sharded or offloaded",
        ),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme"}}},
            "offload to NVMe is of ZeRO stage 3 only: at stage 2 the optimizer goes to RAM",
        ),
        ({"zero_optimization": {"overlap_comm": "auto"}}, "here its default is used"),
        ({"zero_optimization": {"cpu_offload": False}}, "zero_optimization.cpu_offload is deprecated"),
        ({"optimizer": {"params": {"lr": 1}}}, "optimizer has no type: its params are ignored"),
    ],
)
def test_what_does_nothing(config: dict[str, Any], sentence: str) -> None:
    remarks = lint({**ONE, **config})
    found = told(remarks, "warn")
    assert len(found) == 1 and sentence in found[0], found
    assert not told(remarks, "fail")


def test_hosts_without_a_gpu() -> None:
    config = {**ONE, "fp16": {"enabled": True}, "optimizer": ADAM}
    found = told(lint(config, cpu=True), "warn")
    assert [each.partition(" => ")[2] for each in found] == [
        '"bf16": {"enabled": true}, or neither',
        '"torch_adam": true in optimizer.params',
    ]
    assert not lint(config)


def test_buckets_beside_the_memory_of_a_gpu() -> None:
    config = {**ONE, "bf16": {"enabled": True}, "zero_optimization": {"stage": 2, "overlap_comm": True}}
    [found] = told(lint(config, ranks=2, gpu_memory=24 << 30), "warn")
    assert "buckets take up to 9.0 GB of the 26 GB of a GPU" in found
    assert not lint(config, ranks=2, gpu_memory=80 << 30)


def test_buckets_of_stage_3() -> None:
    config = {**ONE, "bf16": {"enabled": True}, "zero_optimization": {"stage": 3}}
    [found] = told(lint(config, ranks=2, gpu_memory=8 << 30), "warn")
    assert "buckets take up to 2.2 GB of the 9 GB of a GPU" in found
    assert not lint(config, ranks=2, gpu_memory=16 << 30)


def test_buffers_of_nvme_beside_what_a_session_may_lock() -> None:
    nvme = {"device": "nvme", "nvme_path": "/nvme"}
    zero: dict[str, Any] = {"stage": 3, "offload_param": nvme, "offload_optimizer": nvme}
    config = {**ONE, "bf16": {"enabled": True}, "zero_optimization": zero, "optimizer": ADAM}
    first, second = told(lint(config, ranks=2, lockable=8 << 20), "warn")
    assert "offload_param to NVMe locks about 1.0 GB of buffers in memory" in first
    assert "a session on the hosts may lock 8.4 MB" in second
    zero["offload_param"] = {**nvme, "buffer_count": 2, "buffer_size": 1000}
    assert len(told(lint(config, ranks=2, lockable=8 << 20), "warn")) == 1
    assert not lint(config, ranks=2, lockable=None) and not lint(config, ranks=2, lockable=2 << 30)


def test_what_cuda_pins_is_beside_that_limit() -> None:
    zero: dict[str, Any] = {"stage": 2, "offload_optimizer": {"device": "cpu"}}
    config = {**ONE, "zero_optimization": zero, "optimizer": ADAM}
    [found] = lint(config, ranks=2, lockable=8 << 20)
    assert found.finding.severity == "info" and "CUDA pins memory beside" in found.finding.observed
    zero["offload_optimizer"]["pin_memory"] = False
    assert not lint(config, ranks=2, lockable=8 << 20)


# Trainer: what its own reader and its arguments make of the file.

FIXED = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "optimizer": {"type": "AdamW", "params": {"lr": 5e-5, "weight_decay": 0.01}},
    "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 100}},
    "zero_optimization": {"stage": 2},
}


def test_arguments_that_a_config_contradicts() -> None:
    typed = ["--weight_decay", "0.0", "--warmup-steps=10", "--bf16"]
    config = {**FIXED, "bf16": {"enabled": False}}
    assert [
        each.partition(" => ")[0]
        for each in told(lint(config, reader="transformers", arguments=typed), "fail")
    ] == [
        "8: optimizer.params.weight_decay is 0.01, and the script gets --weight_decay 0.0",
        "14: scheduler.params.warmup_num_steps is 100, and the script gets --warmup_steps 10",
        "21: bf16.enabled is false, and the script gets --bf16 true",
    ]


def test_a_fixed_config_beside_the_defaults_of_trainer() -> None:
    remarks = lint(FIXED, reader="transformers")
    assert not told(remarks, "fail"), "a script may set what its command line does not"
    unless = " unless the script sets it"
    assert [each.partition(" => ")[0] for each in told(remarks, "warn")] == [
        f"8: optimizer.params.weight_decay is 0.01; transformers' weight_decay is 0{unless}",
        f"14: scheduler.params.warmup_num_steps is 100, and transformers has no warm-up{unless}",
    ]
    auto = {"optimizer": {"type": "AdamW", "params": {"lr": "auto", "weight_decay": "auto"}}}
    zero = {"zero_optimization": {"stage": 2}}
    assert not lint({**ONE, "train_batch_size": "auto", **auto, **zero}, reader="transformers", ranks=4)


def test_auto_is_filled_in_before_the_equation_is_judged() -> None:
    config = {
        "train_batch_size": 64,
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "zero_optimization": {"stage": 2},
    }
    typed = ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2"]
    assert not lint(config, reader="transformers", arguments=typed, ranks=8)
    [found] = told(lint(config, reader="transformers", arguments=typed, ranks=4), "fail")
    assert "4 (micro batch) x 2 (accumulation) x 4 (ranks) is 32" in found


def test_comments_are_read_by_deepspeed_alone() -> None:
    config = '{"zero_optimization": {},\n  "train_batch_size": 8, // all\n  "steps_per_print": 5,\n}'
    assert not lint(config)
    refused = ", which transformers' JSON reader does not take; DeepSpeed alone would"
    assert [each.partition(" => ")[0] for each in told(lint(config, reader="transformers"), "fail")] == [
        f"2: a comment{refused}",
        f"3: a comma after the last entry{refused}",
    ]


def test_settings_that_models_of_transformers_never_see() -> None:
    config = {
        "train_batch_size": "auto",
        "activation_checkpointing": {"partition_activations": True},
        "zero_optimization": {"stage": 3},
    }
    found = told(lint(config, reader="transformers", ranks=4), "warn")
    assert "activation_checkpointing does nothing for a model of transformers" in found[0]
    assert '"stage3_gather_16bit_weights_on_model_save": true' in found[1]


def test_a_key_that_stands_twice() -> None:
    config = '{"train_batch_size": 8,\n "fp16": {},\n "fp16": {"enabled": true}}'
    assert told(lint(config), "fail") == ["3: fp16 is there already, in line 2 => leave one of them out"]
    [found] = told(lint(config, reader="transformers"), "fail")
    assert found.startswith("1: zero_optimization is not there, without which transformers takes no config")


def test_a_script_may_fill_in_what_is_missing() -> None:
    assert not lint(
        {"train_batch_size": "auto", "optimizer": {"type": "Adam", "params": {"lr": "auto"}}}, reader="script"
    )
    assert not lint({"zero_optimization": {"stage": 2}}, reader="script", ranks=2)


# The text itself.


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", {}),
        ("{}", {}),
        ('{"a": [1, 2.5, -3e2, true, null, "x\\n\\u00e4"]}', {"a": [1, 2.5, -300, True, None, "x\n\u00e4"]}),
        ("# one\n{a: 1 /* two */, b: [1,2\n3]\n c: text here\n}", {"a": 1, "b": [1, 2, 3], "c": "text here"}),
        ("a: 5e8\nb: 'it''s'\n", None),
        ("a: 5e8\nb: 'its'", {"a": 500000000, "b": "its"}),
    ],
)
def test_texts(text: str, data: dict[str, Any] | None) -> None:
    if data is None:
        with pytest.raises(UnreadableError):
            read(text)
    else:
        assert read(text).data == data


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ('{\n"a": 1,\n', 3, 'the file ends before a "}"'),
        ('{"a" 1}', 1, '":" is missing after "a", there is "1"'),
        ("[1]", 1, "the file holds a list, not an object"),
        ('{"a":\n}', 2, 'a value is expected, there is "}"'),
        ('{"a": "open\n}', 1, "a text whose quote is not closed on its line"),
        ('{"a": 1}}', 1, '"}" after the end of the object'),
        ("{" * 5, 1, 'a key is expected, there is "{"'),
        ('{"a":' * 500, 1, "nested too deeply"),
    ],
)
def test_texts_that_nobody_can_read(text: str, line: int, why: str) -> None:
    with pytest.raises(UnreadableError) as error:
        read(text)
    assert (error.value.line, error.value.why) == (line, why)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)
NAMES = sorted(
    {*SCHEMA.top, *SCHEMA.removed, "stage", "type", "params", "enabled", "device", "total_num_steps"}
)
VALUES = st.recursive(
    JSON | st.sampled_from(["auto", "cpu", "nvme", "Adam", "SGD", "WarmupDecayLR", 0, 1, 2, 3, True]),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
SECTIONS = [*SCHEMA.strict, *SCHEMA.loose, "optimizer", "scheduler"]
INSIDE = sorted({key for section in SCHEMA.strict.values() for key in section.keys} | {"type", "params"})
CONFIGS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8) | st.dictionaries(
    st.sampled_from(SECTIONS), st.dictionaries(st.sampled_from(INSIDE), VALUES, max_size=5), max_size=4
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_text_is_read_as_python_reads_it(data: dict[str, Any]) -> None:
    document = read(json.dumps(data, indent=1))
    assert document.data == data
    assert not document.relaxed and not document.duplicates


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="{}[]\",:'# /*\n\\ab1.e-truenls", max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        read(text)
    except UnreadableError as error:
        assert error.line >= 1 and error.why


@settings(max_examples=60, deadline=None)
@given(CONFIGS, st.none() | st.integers(1, 9), st.sampled_from(["deepspeed", "transformers", "script"]))
def test_no_config_breaks_the_judge(config: dict[str, Any], ranks: int | None, reader: Reader) -> None:
    text = json.dumps(config, indent=1)
    for each in lint(config, ranks=ranks, reader=reader, cpu=True, gpu_memory=1 << 30, lockable=1 << 16):
        assert 1 <= each.line <= text.count("\n") + 1
        words = each.finding.observed + each.finding.fix + each.finding.symptom
        assert each.finding.observed and words.replace("\n", "").isprintable()


# What is right passes.

FP16 = {"enabled": True, "initial_scale_power": 8}
CYCLE = {
    "cycle_first_step_size": 16000,
    "cycle_first_stair_count": 8000,
    "decay_step_size": 16000,
    "cycle_min_lr": 1e-06,
    "cycle_max_lr": 3e-05,
    "decay_lr_rate": 1e-07,
    "cycle_min_mom": 0.85,
    "cycle_max_mom": 0.99,
    "decay_mom_rate": 0.0,
}
RIGHT: list[tuple[int, dict[str, Any]]] = [
    (1, {"train_batch_size": 1, "optimizer": ADAM}),
    (1, {"train_batch_size": 1, "optimizer": {"type": "adam"}}),
    (1, {"train_batch_size": 1, "bfloat16": {"enabled": True}}),
    (1, {"train_batch_size": 1, "scheduler": {"type": "WarmupLR", "params": {}}, "optimizer": ADAM}),
    (
        2,
        {
            "train_batch_size": 2,
            "optimizer": {"type": "Lamb", "params": {"lr": 0.00015}},
            "gradient_clipping": 1.0,
        },
    ),
    (
        2,
        {"train_batch_size": 2, "tensorboard": {"enabled": True, "output_path": "logs/", "job_name": "test"}},
    ),
    (
        2,
        {
            "train_batch_size": 2,
            "wandb": {"enabled": False, "group": None, "team": None, "project": "p"},
        },
    ),
    (
        2,
        {
            "train_batch_size": 2,
            "csv_monitor": {},
            "comms_logger": {"enabled": True, "prof_all": False, "prof_ops": ["all_reduce"]},
        },
    ),
    *(
        (
            2,
            {
                "train_micro_batch_size_per_gpu": 2,
                "gradient_accumulation_steps": 2,
                "steps_per_print": 1,
                "zero_allow_untested_optimizer": 1,
                "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
                "optimizer": ADAM,
                "fp16": FP16,
            },
        )
        for stage in (1, 2, 3)
    ),
    (1, {"train_batch_size": 4, "fp16": {"enabled": True, "loss_scale": 138.0}, "optimizer": ADAM}),
    (
        1,
        {
            "train_batch_size": 1,
            "optimizer": ADAM,
            "fp16": FP16,
            "scheduler": {"type": "OneCycle", "params": CYCLE},
        },
    ),
    (
        4,
        {
            "train_batch_size": 256,
            "gradient_clipping": 1.0,
            "optimizer": {"type": "Adam", "params": {"lr": 0.00015}},
            "fp16": {"enabled": True, "initial_scale_power": 15},
            "zero_optimization": {
                "stage": 3,
                "sub_group_size": 8,
                "reduce_bucket_size": 20,
                "offload_optimizer": {"device": "cpu", "pin_memory": True, "ratio": 0.3},
            },
        },
    ),
    (
        8,
        {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "steps_per_print": 10,
            "optimizer": {
                "type": "AdamW",
                "params": {"lr": 1e-5, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01},
            },
            "scheduler": {
                "type": "WarmupLR",
                "params": {"warmup_min_lr": 0, "warmup_max_lr": 1e-5, "warmup_num_steps": 10},
            },
            "bf16": {"enabled": True},
            "zero_optimization": {
                "stage": 3,
                "overlap_comm": True,
                "reduce_bucket_size": 5e7,
                "stage3_max_live_parameters": 1e9,
                "stage3_gather_16bit_weights_on_model_save": True,
                "sub_group_size": 1e12,
            },
            "wall_clock_breakdown": False,
        },
    ),
    (
        2,
        {
            "train_batch_size": 8,
            "zero_optimization": {
                "stage": 3,
                "offload_param": {
                    "device": "nvme",
                    "nvme_path": "/local_nvme",
                    "buffer_count": 5,
                    "max_in_cpu": 1e9,
                },
                "offload_optimizer": {"device": "nvme", "nvme_path": "/local_nvme", "pipeline_read": True},
            },
            "optimizer": ADAM,
            "aio": {
                "block_size": 262144,
                "queue_depth": 32,
                "intra_op_parallelism": 1,
                "single_submit": False,
            },
        },
    ),
    (
        2,
        {
            "train_batch_size": 8,
            "flops_profiler": {
                "enabled": True,
                "profile_step": 1,
                "module_depth": -1,
                "top_modules": 1,
                "detailed": True,
            },
            "activation_checkpointing": {"partition_activations": False, "cpu_checkpointing": False},
            "checkpoint": {"tag_validation": "Warn", "load_universal": False, "use_node_local_storage": True},
            "data_types": {"grad_accum_dtype": "fp32"},
            "timers": {"throughput": {"enabled": True, "synchronized": True}},
            "torch_autocast": {"enabled": True, "dtype": "bfloat16"},
            "compile": {"deepcompile": False, "passes": ["z3"]},
            "tensor_parallel": {"autotp_size": 2},
            "pipeline": {"stages": "auto", "partition": "best"},
            "hybrid_engine": {"enabled": True, "max_out_tokens": 512},
            "communication_data_type": "fp16",
            "prescale_gradients": False,
            "vocabulary_size": 1024,
        },
    ),
]


@pytest.mark.parametrize(("ranks", "config"), RIGHT)
def test_configs_of_deepspeed_s_own_tests_and_documentation_pass(ranks: int, config: dict[str, Any]) -> None:
    remarks = lint(config, ranks=ranks)
    assert not told(remarks, "fail") and not told(remarks, "warn")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "train" / "configs").glob("*.json")), ids=lambda path: path.stem
)
def test_the_shipped_configs_pass(path: Path) -> None:
    remarks = lint(path.read_text(), ranks=8, reader="script")
    assert not told(remarks, "fail") and not told(remarks, "warn")


@pytest.mark.parametrize("text", ["\\'", "\\\\'", "it's", 'a "b"', "\\"])
def test_quotes_and_backslashes(text: str) -> None:
    assert read(json.dumps({text: text})).data == {text: text}
    single = text.replace("\\", "\\\\").replace("'", "\\'")
    assert read(f"{{'{single}': 1}}").data == {text: 1}


MANY = 1_000


@pytest.mark.parametrize(
    ("config", "last"),
    [
        ({f"size_{at}": 1 for at in range(MANY)}, 'DeepSpeed has no "size_19" and ignores it without a word'),
        (
            {"zero_optimization": {f"size_{at}": 1 for at in range(MANY)}},
            'zero_optimization has no "size_19" and refuses what it does not know',
        ),
        ({"optimizer": {**ADAM, "params": {f"k{at}": 1 for at in range(MANY)}}}, 'Adam takes no "k19"'),
    ],
)
def test_the_first_of_very_many_are_told_and_the_rest_counted(config: dict[str, Any], last: str) -> None:
    found = lint({"train_micro_batch_size_per_gpu": 1, **config})
    assert len(found) == 20
    assert found[-1].finding.observed == f"{last}; and 980 more like this"


def test_lines_of_an_object_that_a_later_one_replaces_are_forgotten() -> None:
    twice = ",\n".join(f'"k{at % MANY}": {{"{"a" if at < MANY else "b"}": [1]}}' for at in range(2 * MANY))
    document = read(f"{{{twice}}}")
    assert len(document.duplicates) == MANY and document.duplicates[0].first == 1
    assert document.line(("k0", "b", 0)) == document.line(("k0", "a")) == MANY + 1

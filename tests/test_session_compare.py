"""What is launched for each strategy, and what is read of what the ranks told."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from clusterctl.advise.compare.model import Held, Told
from clusterctl.advise.explain import Explanation
from clusterctl.errors import UsageError
from clusterctl.session.compare import Wanted, arguments_for, check, encode, read
from clusterctl.session.options import LaunchOptions
from clusterctl.session.trial import last_words, ranks_told
from tests.test_advise_compare import RECORDED, recorded
from tests.test_run_machine import plan as small_plan


def wanted(*arguments: str, script: str = "", strategies: tuple[str, ...] = ("ddp", "zero1")) -> Wanted:
    options = LaunchOptions(script=script, arguments=arguments)
    return Wanted(strategies=strategies, options=options)


def test_the_shipped_script_gets_strategy_and_steps() -> None:
    found = arguments_for(wanted("--d_model", "64"), "zero1")
    assert " ".join(found.arguments) == "--d_model 64 --strategy zero1 --steps 30 --eval_batches 0"
    assert found.env == ("CLUSTERCTL_MEASURE=2",)


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("--lr 1", "--lr 1 --strategy zero1"),
        ("--zero={strategy} -n {steps}", "--zero=zero1 -n 30"),
        ("--deepspeed {config}", "--deepspeed zero1"),
    ],
)
def test_another_script_gets_what_its_arguments_leave_open(typed: str, given: str) -> None:
    assert " ".join(arguments_for(wanted(*typed.split(), script="t.py"), "zero1").arguments) == given


def test_config_files_are_called_by_their_names(tmp_path: Path) -> None:
    files = tuple(str(tmp_path / name) for name in ("z1.json", "z2.json"))
    asked = wanted("--deepspeed", "{config}", "--out", "o/{strategy}", script="t.py", strategies=files)
    with pytest.raises(UsageError, match=r"there is no .*z1\.json"):
        check(asked)
    for name in files:
        Path(name).write_text("{}")
    check(asked)
    assert arguments_for(asked, files[1]).arguments == ("--deepspeed", files[1], "--out", "o/z2")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (wanted(strategies=("ddp", "zero1", "ddp")), "names ddp twice"),
        (wanted(strategies=()), "names none"),
        (wanted(strategies=("zero4",)), "there is no strategy zero4"),
        (wanted("--steps", "5"), "--steps is what compare itself gives"),
        (wanted("--ds_config=a.json"), "--ds_config is what compare itself gives"),
        (msgspec.structs.replace(wanted(), steps=5), "none is left to be timed"),
    ],
)
def test_what_cannot_be_meant_is_said_before_any_host_is_asked(asked: Wanted, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check(asked)


def test_what_ranks_told_is_read_and_what_is_not_as_expected_passed_over(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    kinds = {"weights_bytes": 1, "gradients_bytes": 2, "optimizer_bytes": 3, "activations_bytes": 4}
    counted = {**kinds, "counted_peak_bytes": 9, "parameters": 7, "dtype": "bfloat16", "accumulation": 2}
    lines: list[object] = [
        {"step": 1, "sent_bytes": 999},
        {"step": 3, **counted, "device": "x" * 500},
        {"step": 6, "sent_bytes": 10},
        {"step": 7, "sent_bytes": 20},
        {"step": 8, "sent_bytes": -5},
        {"step": "9", "sent_bytes": 5},
        {"step": 10, "sent_bytes": True},
        [1],
        {"step": 11, "weights_bytes": "many", **{"gradients_bytes": 1e99}},
    ]
    text = "\n".join(json.dumps(line) for line in lines) + "\nno json\n" + "[" * 100_000
    (metrics / "rank0.jsonl").write_text(text)
    (metrics / "rank1.jsonl").write_bytes(b"\xff\x00\n")
    held, told, sent = ranks_told(tmp_path, small_plan(2), warmup=5)
    assert held == {0: Held(weights=1, gradients=2, optimizer=3, activations=4, peak=9)}
    assert told == Told(parameters=7, precision="bf16", accumulation=2, device="x" * 100)
    assert sent == {"h0": 15.0}


def test_what_a_script_said_stands_beside_an_exit_code_alone() -> None:
    said = ("pretrain.py: there is no ds_config z1.json", "hint: give a JSON file", "")
    found = Explanation(run="x", status="failed", means="ended with exit code 64", quoted=said)
    assert last_words(found) == "(pretrain.py: there is no ds_config z1.json)"
    assert last_words(msgspec.structs.replace(found, known=True)) == ""
    assert last_words(msgspec.structs.replace(found, quoted=())) == ""


def test_a_record_is_read_back_and_another_file_is_none(tmp_path: Path) -> None:
    assert read(RECORDED) == recorded()
    path = tmp_path / "again.json"
    path.write_bytes(encode(recorded()))
    assert read(path) == recorded()
    path.write_text('{"schema": "clusterctl.compare/2"}')
    with pytest.raises(UsageError, match="no record of a comparison"):
        read(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "none")

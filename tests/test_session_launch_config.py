"""The config that a launch's script is given: what is refused, and what is only said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.advise.lint.arguments import Named, named
from clusterctl.advise.lint.schema import Schema
from clusterctl.ask import deepspeed_schema
from clusterctl.session.cluster import Cluster
from clusterctl.session.launch import Prepared, prepare
from clusterctl.session.options import LaunchOptions
from clusterctl.session.refused import RefusedError
from clusterctl.session.schemas import recorded
from clusterctl.store.home import home
from tests.conftest import AnsweringHosts

WRONG = {"train_batch_size": 64, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 1}
FALSE = {"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"offload_gradients": True}}


@pytest.fixture
def project(answering_hosts: AnsweringHosts, monkeypatch: pytest.MonkeyPatch) -> AnsweringHosts:
    """node1 and node2 with the DeepSpeed whose schema is known."""
    for name in ("PYTORCH_NVML_BASED_CUDA_CHECK", "TORCHINDUCTOR_CACHE_DIR"):  # libraries set them
        monkeypatch.delenv(name, raising=False)
    _deepspeed(answering_hosts, recorded().version)
    return answering_hosts


def _deepspeed(hosts: AnsweringHosts, version: str) -> None:
    for name, facts in hosts.facts.items():
        packages = {**facts.python.packages, "deepspeed": version}
        python = msgspec.structs.replace(facts.python, packages=packages)
        hosts.facts[name] = msgspec.structs.replace(facts, python=python)


def launched(config: dict[str, Any], *arguments: str, **options: Any) -> Prepared:
    Path("ds.json").write_text(json.dumps(config, indent=1))
    wanted = LaunchOptions(script="train.py", arguments=arguments, **options)
    return prepare(Cluster.from_hostfile().target, None, wanted, to_start=False)  # type: ignore[arg-type]


def test_what_must_fail_is_refused_with_its_line_and_the_way_out(project: AnsweringHosts) -> None:
    with pytest.raises(RefusedError) as refused:
        launched(WRONG, "--deepspeed", "--deepspeed_config", "ds.json")
    assert refused.value.exit_code == 120
    assert refused.value.message == (
        "not started: ds.json:2: train_batch_size is 64, "
        "but 4 (micro batch) x 1 (accumulation) x 2 (ranks) is 8"
    )
    assert "clusterctl lint ds.json --ranks 2 --reader deepspeed; --force" in refused.value.hint


def test_force_starts_it_and_says_so(project: AnsweringHosts) -> None:
    plan = launched(WRONG, "--deepspeed_config=ds.json", force=True).plan
    assert any("train_batch_size is 64" in note for note in plan.notes)


def test_what_is_ignored_is_a_note(project: AnsweringHosts) -> None:
    plan = launched(
        {"train_micro_batch_size_per_gpu": 4, "gradient_cliping": 1}, "--ds_config", "ds.json"
    ).plan
    assert 'ds.json:3: DeepSpeed has no "gradient_cliping" and ignores it without a word' in plan.notes


def test_a_script_with_arguments_of_its_own_may_change_batches_and_no_keys(project: AnsweringHosts) -> None:
    assert launched(WRONG, "--ds_config", "ds.json", "--micro_batch", "32").plan.notes
    with pytest.raises(RefusedError):
        launched(WRONG, "--ds_config", "ds.json")
    with pytest.raises(RefusedError, match="offload_gradients"):
        launched(FALSE, "--ds_config", "ds.json", "--micro_batch", "32")


def test_hosts_with_another_deepspeed_are_asked_what_it_accepts(
    project: AnsweringHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    other: dict[str, Any] = json.loads(msgspec.json.encode(recorded()))
    other["version"] = "0.16.0"
    other["strict"]["zero_optimization"]["fields"].append({"name": "offload_gradients", "kinds": ["bool"]})
    asked: list[tuple[str, str]] = []

    def of_host(_link: object, host: str, python: str) -> Schema:
        asked.append((host, python))
        return msgspec.convert(other, Schema)

    monkeypatch.setattr(deepspeed_schema, "of_host", of_host)
    _deepspeed(project, "0.16.0")
    assert not launched(FALSE, "--deepspeed_config", "ds.json").plan.notes
    assert asked == [("node1", project.facts["node1"].python.executable)]
    with pytest.raises(RefusedError, match="offload_nothing"):
        launched(
            {"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"offload_nothing": True}},
            "--deepspeed_config",
            "ds.json",
        )
    assert len(asked) == 1, "what one host has told is kept"
    [kept] = (home() / "schemas").iterdir()
    assert kept.stat().st_mode & 0o077 == 0


def test_hosts_that_do_not_say_what_theirs_accepts_may_know_other_keys(
    project: AnsweringHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deepspeed_schema, "of_host", lambda *_: None)
    _deepspeed(project, "0.16.0")
    plan = launched(FALSE, "--deepspeed_config", "ds.json").plan
    assert any("offload_gradients" in note for note in plan.notes)
    with pytest.raises(RefusedError, match="train_batch_size"):
        launched(WRONG, "--deepspeed_config", "ds.json")


def test_trainer_reads_it_only_where_the_script_uses_transformers(project: AnsweringHosts) -> None:
    config = {"train_batch_size": "auto", "gradient_clipping": 0.5, "zero_optimization": {"stage": 2}}
    typed = ("--deepspeed", "ds.json", "--max_grad_norm", "1.0")
    assert launched(config, *typed)
    Path("train.py").write_text("from transformers import Trainer\n")
    with pytest.raises(RefusedError, match="the script gets --max_grad_norm"):
        launched(config, *typed)


def test_files_that_do_not_travel_are_not_judged(project: AnsweringHosts, tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text(json.dumps(WRONG))
    assert launched(WRONG, "--deepspeed_config", str(tmp_path / "ds.json"))
    assert launched(WRONG, "--deepspeed_config", "../ds.json")
    assert launched(WRONG, "--deepspeed_config", "on_the_hosts.json")
    assert launched(WRONG, "--deepspeed_config", "ds.json", sync=False)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--lr 1", None),
        ("--deepspeed", None),
        ("--deepspeed --lr 1", None),
        ("--deepspeed --deepspeed-config=a.json", Named("a.json", "deepspeed", False)),
        ("--lr 1 --deepspeed a.json", Named("a.json", "transformers", True)),
        ("--local_rank=0 --ds_config a.json", Named("a.json", "script", False)),
    ],
)
def test_arguments_that_name_a_config(words: str, found: Named | None) -> None:
    assert named(words.split(), trainer=True) == found

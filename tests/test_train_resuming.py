"""Which of its checkpoints a fine-tuning goes on from."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

for package in ("torch", "transformers"):
    pytest.importorskip(package)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

from checkpoint import RECORD  # noqa: E402
from errors import UserError  # noqa: E402
from ranks import Place  # noqa: E402
from trainer_checkpoint import Recording, Store  # noqa: E402
from trainer_restoring import EXACT_WHEN_EQUAL, MUST_AGREE, newest  # noqa: E402

ALONE = Place(rank=0, world_size=1, local_rank=0, host="here", device=torch.device("cpu"), backend="gloo")
FACTS = {
    **dict.fromkeys((*MUST_AGREE, *EXACT_WHEN_EQUAL)),
    **{"engine": "ddp", "ranks": 1, "batch": 4, "gas": 2, "lr": 0.1, "data": "abc", "steps": 9},
}


@pytest.fixture(scope="module", autouse=True)
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    meeting = tmp_path_factory.mktemp("group") / "file"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(directory=tmp_path, place=ALONE, node_local=False, keep=2, facts=FACTS)


def save(store: Store, step: int) -> Path:
    """As the Trainer does, which calls its callbacks when it has written."""
    path = store.directory / f"checkpoint-{step}"
    for name in ("adapter_model.safetensors", "rng_state.pth", f"global_step{step}/optim_states.pt"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(name.encode() * 10)
    Recording(store).on_save(None, SimpleNamespace(global_step=step), None)
    return path


def refusal(resume: str | None, store: Store) -> str:
    with pytest.raises(UserError) as caught:
        newest(resume, store)
    return f"{caught.value.message}; {caught.value.hint}"


def test_every_file_is_measured_and_the_oldest_go(store: Store) -> None:
    paths = [save(store, step) for step in (6, 12, 100)]
    assert [path.exists() for path in paths] == [False, True, True]
    record = json.loads((paths[1] / RECORD).read_text())
    assert list(record["files"]) == [
        "adapter_model.safetensors",
        "global_step12/optim_states.pt",
        "latest",
        "rng_state.pth",
    ]
    assert {name: record[name] for name in FACTS} == FACTS
    assert (paths[1] / "latest").read_text() == "global_step12"
    assert newest("auto", store) == paths[2]


def test_one_that_was_not_finished_is_passed_over_and_alone_is_a_beginning(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (save(store, 3) / RECORD).unlink()
    assert newest("auto", store) is None
    said = capsys.readouterr().out
    assert "checkpoint-3 is passed over: it was not finished" in said and "starting at step 0" in said
    whole = save(store, 2)
    assert newest("auto", store) == whole


def test_a_torn_one_is_passed_over_for_the_one_before(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    older, torn = save(store, 1), save(store, 2)
    shard = torn / "global_step2/optim_states.pt"
    content = shard.read_bytes()
    shard.write_bytes(content[:7])
    words = "global_step2/optim_states.pt has 7 of"
    assert f"no checkpoint in {store.directory} is whole: checkpoint-2: here: {words}" in refusal(
        str(torn), store
    )
    assert newest("auto", store) == older
    assert f"checkpoint-2 is passed over: here: {words}" in capsys.readouterr().out
    # From now on it counts as unfinished, and is written again.
    shard.write_bytes(content)
    assert newest("auto", store) == older
    (older / "rng_state.pth").unlink()
    assert "checkpoint-1: here: rng_state.pth is missing" in refusal("auto", store)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"lr": 0.2}, "checkpoint-6 was written with lr 0.1, this run has 0.2; repeat the arguments"),
        ({"engine": "zero2"}, "was written with engine ddp, this run has zero2"),
        ({"lora_rank": 8}, "was written with lora_rank none, this run has 8"),
        ({"batch": 2, "gas": 1}, "4 conversations are a step there, and 2 in this run; --gas 2 makes them"),
        ({"batch": 6, "gas": 2}, "another --micro_batch or --gas makes them equal"),
    ],
)
def test_another_run_does_not_go_on_from_it(facts: dict[str, object], words: str, store: Store) -> None:
    save(store, 6)
    assert words in refusal("auto", replace(store, facts={**FACTS, **facts}))


def test_shards_are_for_as_many_ranks(store: Store) -> None:
    sharded = replace(store, facts={**FACTS, "engine": "zero2", "ranks": 2})
    save(sharded, 6)
    other = replace(store, facts={**FACTS, "engine": "zero2"})
    assert "checkpoint-6 was written by 2 ranks, this run has 1; DeepSpeed resumes on as many" in refusal(
        "auto", other
    )
    # By DDP every rank has everything.
    ddp = replace(store, directory=store.directory / "ddp", facts={**FACTS, "ranks": 2})
    written = save(ddp, 6)
    assert newest("auto", replace(ddp, facts=FACTS)) == written


def test_what_is_another_continuation_is_said(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    save(store, 6)
    newest("auto", replace(store, facts={**FACTS, "data": "xyz", "steps": 20}))
    assert "not an exact continuation: other data, steps was 9, now 20" in capsys.readouterr().out


def test_later_checkpoints_of_another_run_are_not_taken_for_its_own(store: Store) -> None:
    first, second = save(store, 6), save(store, 12)
    assert f"holds {second.name} of an earlier run, and this one goes on at step 0" in refusal(None, store)
    assert "this one goes on at step 6" in refusal(str(first), store)
    assert newest(str(second), store) == second
    elsewhere = replace(store, directory=store.directory / "new")
    assert newest(str(store.directory), elsewhere) == second
    assert "new holds no whole checkpoint" in refusal(str(elsewhere.directory), elsewhere)
    # A copy that has another name is nobody's checkpoint.
    second.rename(store.directory / "checkpoint-best")
    assert newest("auto", store) == first

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

for package in ("torch", "deepspeed"):
    pytest.importorskip(package)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

from checkpoint import RECORD, Checkpoints  # noqa: E402
from errors import UserError  # noqa: E402
from ranks import Place  # noqa: E402
from restoring import Found, compare, newest, newest_intact, torn  # noqa: E402

ALONE = Place(rank=0, world_size=1, local_rank=0, host="here", device=torch.device("cpu"), backend="gloo")


class Engine:
    """Writes files named as DeepSpeed names them."""

    def save(self, path: Path, *, is_writer: bool) -> None:
        assert is_writer
        path.mkdir(parents=True)
        for name in ("mp_rank_00_model_states.pt", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"):
            (path / name).write_bytes(path.name.encode() * 1000)


@pytest.fixture(scope="module", autouse=True)
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    meeting = tmp_path_factory.mktemp("group") / "file"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def store(tmp_path: Path) -> Checkpoints:
    store = Checkpoints(tmp_path, ALONE, node_local=False, keep=9, facts={"world_size": 1})
    for step in (1, 2, 3):
        store.save(cast(Any, Engine()), step, samples=step)
    return store


def test_the_record_measures_every_file(store: Checkpoints) -> None:
    record = json.loads((store.directory / "step-000002" / RECORD).read_text())
    assert sorted(record["files"]) == [
        "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
        "mp_rank_00_model_states.pt",
    ]
    found, notes = newest_intact(store.directory, ALONE)
    assert found is not None and found.path == store.directory / "step-000003" and notes == []
    assert newest(store.directory / "step-000002", ALONE) == Found(
        path=store.directory / "step-000002", record=record
    )
    assert newest(store.directory / "elsewhere", ALONE) is None


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(store: Checkpoints) -> None:
    short = store.directory / "step-000003" / "mp_rank_00_model_states.pt"
    short.write_bytes(short.read_bytes()[:500])
    shard = "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"
    changed = store.directory / "step-000002" / shard
    changed.write_bytes(b"x" + changed.read_bytes()[1:])
    (store.directory / "step-000001" / RECORD).rename(store.directory / "kept")
    says = "no checkpoint in .* is whole: step-000003: here: mp_rank_00_model_states.pt has 500 of"
    with pytest.raises(UserError, match=says):
        newest_intact(store.directory, ALONE)
    (store.directory / "kept").rename(store.directory / "step-000001" / RECORD)
    found, notes = newest_intact(store.directory, ALONE)
    assert found is not None and found.path == store.directory / "step-000001"
    assert notes == [
        "step-000003 is passed over: here: mp_rank_00_model_states.pt has 500 of 11,000 bytes",
        f"step-000002 is passed over: here: {shard} is not what was written",
    ]
    assert newest_intact(store.directory, ALONE) == (found, [])


def test_a_shard_of_a_host_that_is_away_is_asked_for_and_the_checkpoint_kept(store: Checkpoints) -> None:
    shard = "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"
    places = [store.directory / f"step-00000{step}" for step in (1, 2, 3)]
    for place in places:
        (place / shard).rename(place / "elsewhere")
    with pytest.raises(
        UserError, match=f"step-000003: {shard} is on no host of this run, here wrote it"
    ) as caught:
        newest_intact(store.directory, ALONE)
    assert f"scp 'here:{places[2]}/*' {places[2]}/" in caught.value.hint
    (places[2] / "elsewhere").rename(places[2] / shard)
    found, notes = newest_intact(store.directory, ALONE)
    assert found is not None and found.path == places[2] and notes == []


def test_the_oldest_goes_when_the_newest_has_proved_good(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, ALONE, node_local=False, keep=1, facts={})
    for step in (1, 2):
        store.save(cast(Any, Engine()), step, samples=step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001", "step-000002"]
    store.prune()
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


class Refused(Engine):
    """Says what torch says where no file can be written."""

    def save(self, path: Path, *, is_writer: bool) -> None:
        raise RuntimeError("unexpected pos 128 vs 0")


def test_a_disk_that_takes_no_more_is_a_sentence(store: Checkpoints) -> None:
    with pytest.raises(RuntimeError, match="unexpected pos"):
        store.save(cast(Any, Refused()), 4, samples=4)  # the disk is not at fault
    store.directory = Path("/dev/full/saved")
    with pytest.raises(UserError, match="here cannot save /dev/full/saved/step-000004: Not a dir") as caught:
        store.save(cast(Any, Refused()), 4, samples=4)
    assert caught.value.rank_local and "--resume auto" in caught.value.hint


FACTS: dict[str, Any] = {
    "engine": "zero2",
    **dict.fromkeys(("dtype", "seq_len", "n_layer", "d_model", "n_head", "vocab_size"), 8),
    **dict.fromkeys(("global_batch", "seed", "data", "dropout", "lr_decay_steps", "warmup"), 0),
}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"engine": "zero3"}, "step-000001 was written by --strategy zero3, this run is zero2"),
        ({"engine": "zero3-nvme"}, "step-000001 cannot be resumed: DeepSpeed does not bring back .* nvme"),
        ({"engine": None}, "step-000001 was not written by this version"),
        ({"n_layer": 9}, "step-000001 has n_layer 9, this run has 8"),
    ],
)
def test_a_foreign_checkpoint_is_refused_in_words(changed: dict[str, Any], says: str) -> None:
    record = {name: value for name, value in {**FACTS, **changed}.items() if value is not None}
    with pytest.raises(UserError, match=says):
        compare(Found(path=Path("step-000001"), record=record), FACTS)


def test_what_else_differs_is_said() -> None:
    found = Found(path=Path("step-000001"), record={**FACTS, "seed": 7})
    assert compare(found, FACTS) == ["seed was 7, now 0"]


def test_a_record_that_is_no_json_is_torn(store: Checkpoints) -> None:
    (store.directory / "step-000003" / RECORD).write_text('{"world_si')
    found = newest(store.directory, ALONE)
    problem = torn(found, ALONE) if found else None
    assert problem is not None and problem.reason.startswith(f"its {RECORD} is no record: ")

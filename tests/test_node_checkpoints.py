"""What a node tells of checkpoints: real files, whole and torn."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.messages.checkpoints import HostCheckpoint
from clusterctl.node.run.checkpoints import look, place_latest


def saved(path: Path, content: bytes = b"weights" * 99) -> Path:
    """As torch.save writes: a zip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return path


def torn(path: Path) -> Path:
    """As a rank that was killed leaves it."""
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 2)
    return path


def tensors(path: Path, *, size: int = 8, cut: int = 0) -> Path:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, size]}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    data = struct.pack("<Q", len(header)) + header + bytes(size)
    path.write_bytes(data[: len(data) - cut])
    return path


def deepspeed(root: Path, step: int, ranks: Iterable[int]) -> Path:
    folder = root / f"global_step{step}"
    saved(folder / "mp_rank_00_model_states.pt")
    for rank in ranks:
        saved(folder / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    return folder


def seen(root: Path) -> dict[str, HostCheckpoint]:
    """As the controller decodes it."""
    found: list[Any] = look(str(root))["found"]
    return {each["tag"]: msgspec.convert(each, HostCheckpoint) for each in found}


def problems(checkpoint: HostCheckpoint) -> dict[str, str]:
    return {file.name: file.problem for file in checkpoint.files if file.problem}


def test_a_directory_that_is_not_there_yet_holds_nothing(tmp_path: Path) -> None:
    assert look(str(tmp_path / "none")) == {"latest": None, "found": []}


def test_shards_of_deepspeed_newest_first(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        deepspeed(tmp_path, step, [0, 1])
    (tmp_path / "latest").write_text("global_step100\n")
    (tmp_path / "logs7").mkdir()
    assert look(str(tmp_path))["latest"] == "global_step100"
    found = seen(tmp_path)
    assert list(found) == ["global_step100", "global_step10", "global_step9"]
    assert (found["global_step10"].kind, found["global_step10"].step) == ("deepspeed", 10)
    assert not problems(found["global_step10"])
    assert len(found["global_step10"].names) == 3


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (torn, "its end is missing"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(bytes(4096)), "zeros"),
    ],
)
def test_a_torn_shard_is_told_without_torch(tmp_path: Path, damage: Any, said: str) -> None:
    folder = deepspeed(tmp_path, 10, [0])
    damage(folder / "mp_rank_00_model_states.pt")
    assert problems(seen(tmp_path)["global_step10"]) == {"mp_rank_00_model_states.pt": said}


def test_what_is_no_zip_at_all_is_not_judged(tmp_path: Path) -> None:
    folder = deepspeed(tmp_path, 10, [0])
    (folder / "mp_rank_00_model_states.pt").write_bytes(b"\x80\x02}q\x00.")
    assert not problems(seen(tmp_path)["global_step10"])


def test_checkpoints_of_the_trainer(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-20"
    tensors(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"w": "model-1.safetensors"}}')
    (folder / "trainer_state.json").write_text("{}")
    (found,) = seen(tmp_path).values()
    assert (found.kind, found.step, found.expected) == ("trainer", 20, ("model-1.safetensors",))
    assert not problems(found)
    tensors(folder / "model-1.safetensors", cut=1)
    (folder / "trainer_state.json").write_text("{")
    told = {"model-1.safetensors": "its end is missing", "trainer_state.json": "not JSON"}
    assert problems(seen(tmp_path)["checkpoint-20"]) == told


def test_a_file_that_cannot_be_read_is_not_called_torn(tmp_path: Path) -> None:
    folder = deepspeed(tmp_path, 10, [0])
    (folder / "complete.json").mkdir()
    assert problems(seen(tmp_path)["global_step10"]) == {"complete.json": "Is a directory"}


def test_distributed_checkpoints_name_their_files_in_a_pickle_that_stays_one(tmp_path: Path) -> None:
    folder = tmp_path / "step_30"
    for rank in (0, 1):
        saved(folder / f"__{rank}_0.distcp")
    (folder / ".metadata").write_bytes(b"\x80\x04cos\nsystem\n__0_0.distcp..__1_0.distcp..__2_0.distcp.")
    (found,) = seen(tmp_path).values()
    assert (found.kind, found.expected) == ("dcp", ("__0_0.distcp", "__1_0.distcp", "__2_0.distcp"))


def test_the_shipped_workload_says_itself_when_it_was_whole(tmp_path: Path) -> None:
    saved(tmp_path / "step-000010/mp_rank_00_model_states.pt")
    (tmp_path / "step-000010/complete.json").write_text('{"world_size": 3}')
    saved(tmp_path / "step-000020/mp_rank_00_model_states.pt")
    found = seen(tmp_path)
    assert {tag: (each.kind, each.world_size) for tag, each in found.items()} == {
        "step-000020": ("shipped", None),
        "step-000010": ("shipped", 3),
    }


def test_latest_is_placed_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "latest").write_text("global_step1")
    place_latest(str(tmp_path), "global_step40")
    assert (tmp_path / "latest").read_text() == "global_step40"
    assert [each.name for each in tmp_path.iterdir()] == ["latest"]

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

for package in ("torch", "deepspeed"):
    pytest.importorskip(package)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

import dsconfig  # noqa: E402
import zero  # noqa: E402
from arguments import parse  # noqa: E402
from ddp import clip_  # noqa: E402
from errors import UserError  # noqa: E402
from ranks import Place  # noqa: E402

ALONE = Place(rank=0, world_size=1, local_rank=0, host="here", device=torch.device("cpu"), backend="gloo")


@pytest.fixture(scope="module", autouse=True)
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    meeting = tmp_path_factory.mktemp("group") / "file"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def to_nvme(*argv: str) -> dict[str, Any]:
    args = parse(["--strategy", "zero3-nvme", *argv])
    return dsconfig.complete(dsconfig.read(args.ds_config), args, world_size=1)


def test_offload_to_nvme_needs_a_place() -> None:
    with pytest.raises(UserError, match="needs a directory on a local disk") as caught:
        zero.require_nvme(to_nvme(), ALONE)
    assert caught.value.hint == "add --nvme_path DIR"


@pytest.mark.parametrize("builds", [False, True])
def test_offload_to_nvme_needs_what_deepspeed_compiles(builds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zero.AsyncIOBuilder.is_compatible", lambda self, verbose: builds)
    if builds:
        zero.require_nvme(to_nvme("--nvme_path", "/disk"), ALONE)
        return
    with pytest.raises(UserError, match="here cannot offload to nvme") as caught:
        zero.require_nvme(to_nvme("--nvme_path", "/disk"), ALONE)
    assert "libaio" in caught.value.hint


@pytest.mark.parametrize("most", [0.0, 0.5, 100.0])
def test_clipping_leaves_what_is_small_and_the_direction(most: float) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2))]
    gradients = [torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.0, 2.0])]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    assert clip_(parameters, most).item() == 5.0
    factor = most / 5.0 if 0 < most < 5 else 1.0
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert parameter.grad is not None and torch.allclose(parameter.grad, gradient * factor)


def test_the_norm_of_many_small_gradients_is_summed_in_double() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1 << 24))
    parameter.grad = torch.full_like(parameter, 0.1)
    assert clip_([parameter], 0.0).item() == pytest.approx(409.6 * float(torch.tensor(0.1)) / 0.1, rel=1e-9)

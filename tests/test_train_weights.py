from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

for package in ("torch", "transformers", "peft"):
    pytest.importorskip(package)
TRAIN = Path(__file__).resolve().parents[1] / "train"
sys.path.insert(0, str(TRAIN))

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402

import answering  # noqa: E402
import generate  # noqa: E402
import sft  # noqa: E402
import weights  # noqa: E402
from errors import UserError  # noqa: E402
from ranks import Place  # noqa: E402
from tests.tiny_models import CHATML, save_model  # noqa: E402

HERE = Place(rank=0, world_size=1, local_rank=0, host="here", device=torch.device("cpu"), backend="gloo")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base"), CHATML)


def arguments(base: Path, *more: str) -> Any:
    return sft.parse(["--model", str(base), "--data", "x", "--save_dir", "y", *more])


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As it is before the first step, and with every second matrix changed."""
    folder = tmp_path_factory.mktemp("adapter")
    model = weights.load(arguments(base), dtype="fp32", stage=None, pad=0, place=HERE)
    model.save_pretrained(folder / "before")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder / "after")
    return folder


def altered(source: Path, target: Path, alter: Any) -> Path:
    target.mkdir()
    (target / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
    tensors = load_file(source / "adapter_model.safetensors")
    save_file({name: alter(tensor) for name, tensor in tensors.items()}, target / "adapter_model.safetensors")
    return target


def test_an_adapter_counts_when_its_numbers_changed(adapter: Path, base: Path, tmp_path: Path) -> None:
    assert "finite and changed" in weights.prove(adapter / "after", str(base))
    with pytest.raises(weights.NothingLearned, match="is what it was before the first step"):
        weights.prove(adapter / "before", str(base))
    # What ZeRO-3 leaves where weights are saved without being gathered.
    empty = altered(adapter / "after", tmp_path / "empty", lambda tensor: torch.empty(0))
    with pytest.raises(weights.NothingLearned, match=r"\.weight of the saved adapter is empty"):
        weights.prove(empty, str(base))
    broken = altered(adapter / "after", tmp_path / "broken", lambda tensor: tensor * float("nan"))
    with pytest.raises(weights.NothingLearned, match="is not finite"):
        weights.prove(broken, str(base))
    (broken / "adapter_model.safetensors").unlink()
    with pytest.raises(weights.NothingLearned, match="the saved adapter has no weights"):
        weights.prove(broken, str(base))
    (broken / "adapter_model.safetensors").write_bytes(b"cut off")
    with pytest.raises(weights.NothingLearned, match="cannot be opened"):
        weights.prove(broken, str(base))


def test_a_whole_model_is_compared_with_what_it_was(base: Path, tmp_path: Path) -> None:
    with pytest.raises(weights.NothingLearned, match="the saved model is what it was"):
        weights.prove(base, str(base))
    model = AutoModelForCausalLM.from_pretrained(base)
    model.model.norm.weight.data.add_(0.1)
    model.save_pretrained(tmp_path)
    assert "finite and changed" in weights.prove(tmp_path, str(base))


def test_nf4_quantises_what_lora_trains_on(base: Path) -> None:
    pytest.importorskip("bitsandbytes")
    weights.require_nf4(HERE)
    model = weights.load(arguments(base, "--method", "qlora"), dtype="fp32", stage=None, pad=0, place=HERE)
    quantised = [name for name, each in model.named_parameters() if type(each).__name__ == "Params4bit"]
    trained = [name for name, each in model.named_parameters() if each.requires_grad]
    assert len(quantised) == 14 and trained and all("lora_" in name for name in trained)
    plain = AutoModelForCausalLM.from_pretrained(base)
    asked = torch.arange(12).reshape(1, 12)
    model.eval()
    with torch.no_grad():
        first, again, exact = (each(input_ids=asked).logits for each in (model, model, plain))
    assert torch.equal(first, again)
    assert 0 < (first - exact).abs().mean() < 0.2 * exact.abs().mean()


def test_the_merged_model_answers_as_base_and_adapter_do(adapter: Path, base: Path, tmp_path: Path) -> None:
    words = ["--model", str(base), "--adapter", str(adapter / "after"), "--max_new_tokens", "8"]
    asked = [{"role": "user", "content": "question number 7"}]
    said: list[str] = []
    model = answering.Model(generate.parse([*words, "--dtype", "fp32"]))
    before = model.answer(asked, said.append)
    assert before == "".join(said)
    told = model.merge(tmp_path / "merged")
    assert "finite and changed" in told
    merged = answering.Model(generate.parse(["--model", str(tmp_path / "merged"), "--max_new_tokens", "8"]))
    assert merged.answer(asked, said.append) == before
    plain = answering.Model(generate.parse(["--model", str(base), "--max_new_tokens", "8"]))
    assert plain.answer(asked, said.append) != before
    assert (tmp_path / "merged" / "chat_template.jinja").read_text() == CHATML
    with pytest.raises(UserError, match="is not an empty directory"):
        merged.merge(tmp_path / "merged")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--strategy", "zero2", "--deepspeed", "x.json"], "both name the settings"),
        (["--lr", "nan"], "--lr is nan"),
        (["--lora_rank", "0"], "--lora_rank is 0"),
        (["--eval_share", "1"], "--eval_share is 1"),
        (["--data", ""], "--data is empty"),
        (["--method", "dora"], "invalid choice: 'dora'"),
    ],
)
def test_arguments_that_cannot_be_right(words: list[str], message: str, base: Path) -> None:
    with pytest.raises(UserError, match=message):
        arguments(base, *words)


def test_what_is_no_model_is_said_early(base: Path, adapter: Path, tmp_path: Path) -> None:
    for place, message in (
        (tmp_path, "has no config.json"),
        (adapter / "after", "is an adapter, no model"),
        (tmp_path / "missing", "there is no "),
    ):
        with pytest.raises(UserError, match=f"here: .*{message}"):
            weights.describe(str(place), HERE)
    with pytest.raises(UserError, match="is a whole model, no adapter"):
        answering.Model(generate.parse(["--adapter", str(base)]))
    with pytest.raises(UserError, match="is an adapter, no model"):
        answering.Model(generate.parse(["--model", str(adapter / "after")]))


def test_an_adapter_answers_with_its_own_base_only(base: Path, adapter: Path, tmp_path: Path) -> None:
    def refusal(model: Path, adapter: Path) -> str:
        with pytest.raises(UserError) as caught:
            answering.Model(generate.parse(["--model", str(model), "--adapter", str(adapter)]))
        return caught.value.message

    others = {layers: tmp_path / f"layers-{layers}" for layers in (1, 3)}
    for layers, other in others.items():
        shutil.copytree(base, other)
        config = AutoConfig.from_pretrained(base, num_hidden_layers=layers)
        AutoModelForCausalLM.from_config(config).save_pretrained(other)
    # peft alone leaves out what finds no layer, and other layers as they are.
    assert "28 matrices, and the model has layers for 14" in refusal(others[1], adapter / "after")
    recorded = altered(adapter / "after", tmp_path / "recorded", lambda tensor: tensor)
    (recorded / weights.BASE).write_text(json.dumps(weights.shape(AutoConfig.from_pretrained(base))))
    assert f"does not fit {others[3]}: its model had num_hidden_layers 2, this one has 3" in refusal(
        others[3], recorded
    )
    torn = altered(adapter / "after", tmp_path / "torn", lambda tensor: tensor)
    (torn / "adapter_model.safetensors").write_bytes(b"cut off")
    assert f"the adapter {torn} cannot be read" in refusal(base, torn)
    gone = json.loads((torn / "adapter_config.json").read_text())
    gone["base_model_name_or_path"] = str(tmp_path / "gone")
    (torn / "adapter_config.json").write_text(json.dumps(gone))
    with pytest.raises(UserError, match=f"there is no {tmp_path}/gone, which {torn} names"):
        answering.Model(generate.parse(["--adapter", str(torn)]))

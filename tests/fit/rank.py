"""One rank of a measurement: trains each case of a JSON list for some steps and counts its tensors' bytes.

Under torchrun, with train/ in PYTHONPATH: storages are counted as `clusterctl compare` has them counted.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from typing import Any

import deepspeed
import torch
import torch.distributed as dist

from memory import Storages


def model_of(case: dict[str, Any]) -> torch.nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    values = dict(case["model"])
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    model: torch.nn.Module = AutoModelForCausalLM.from_config(config)
    if case["method"] == "qlora":
        model = packed(model, sharded=case["config"]["zero_optimization"]["stage"] == 3)
    if case["method"] != "full":
        model = adapted(model, case["lora_rank"])
    if case["checkpointing"]:
        model.gradient_checkpointing_enable()  # type: ignore[operator]
    return model


def packed(model: Any, *, sharded: bool) -> torch.nn.Module:
    """As `train/sft.py --method qlora` loads a model from its directory."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_quant_storage=torch.bfloat16 if sharded else torch.uint8,
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=how, dtype=torch.bfloat16, device_map={"": "cpu"}
        )
    return loaded


def adapted(model: Any, rank: int) -> torch.nn.Module:
    from peft import LoraConfig, get_peft_model

    model.enable_input_require_grads()
    found: torch.nn.Module = get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear"))
    return found


class Collectives:
    """Bytes of the whole tensors that were handed to each kind of collective."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        for name in ("all_reduce", "reduce", "all_gather_into_tensor", "reduce_scatter_tensor"):
            setattr(dist, name, self._counted(getattr(dist, name), name))

    def _counted(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            tensors = (each for each in (*args, *options.values()) if isinstance(each, torch.Tensor))
            self.bytes[name] += max(each.numel() * each.element_size() for each in tensors)
            return call(*args, **options)

        return counted


def measure(case: dict[str, Any], collectives: Collectives) -> dict[str, Any]:
    torch.manual_seed(0)
    storages = Storages()
    with storages:
        model = model_of(case)
        engine, *_ = deepspeed.initialize(
            model=model,
            model_parameters=[each for each in model.parameters() if each.requires_grad],
            config=json.loads(json.dumps(case["config"])),
        )
        vocabulary = case["model"]["vocab_size"]
        told: dict[str, Any] = {}
        for step in range(case["steps"]):
            if step == 1:
                gc.collect()
                storages.peak = storages.live
            if step == case["steps"] - case["config"]["gradient_accumulation_steps"]:
                collectives.bytes.clear()
            tokens = torch.randint(0, vocabulary, (case["micro_batch"], case["sequence"]))
            loss = engine(input_ids=tokens, labels=tokens, use_cache=False).loss
            told["forward"] = storages.live
            engine.backward(loss)
            del loss
            told["backward"] = storages.live
            engine.step()
            told["step"] = storages.live
        told["peak"] = storages.peak
        told["collectives"] = dict(collectives.bytes)
        del engine, model, tokens
    gc.collect()
    return told


def main() -> None:
    # It would be compiled at the start, and serves inference only.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    dist.init_process_group("gloo")
    collectives = Collectives()
    for case in json.loads(sys.argv[1]):
        try:
            told: dict[str, Any] = measure(case, collectives)
        except Exception as error:  # noqa: BLE001 (told to the reader of the table)
            told = {"error": f"{type(error).__name__}: {error}"[:300]}
        if dist.get_rank() == 0:
            print("MEASURED", json.dumps({"name": case["name"], **told}), flush=True)
    dist.barrier()


if __name__ == "__main__":
    main()
    # Without the interpreter's teardown, where a thread of gloo sometimes aborts a finished rank.
    os._exit(0)

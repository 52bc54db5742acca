"""One rank of a measurement: trains each case of a JSON list for some steps and counts its tensors' bytes.

Under torchrun, with train/ in PYTHONPATH: storages are counted as `clusterctl compare` has them counted.
"""

from __future__ import annotations

import gc
import json
import sys
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
    if case.get("checkpointing"):
        model.gradient_checkpointing_enable()  # type: ignore[operator]
    return model


def measure(case: dict[str, Any]) -> dict[str, int]:
    torch.manual_seed(0)
    storages = Storages()
    with storages:
        model = model_of(case)
        engine, *_ = deepspeed.initialize(
            model=model, model_parameters=model.parameters(), config=json.loads(json.dumps(case["config"]))
        )
        vocabulary = case["model"]["vocab_size"]
        told: dict[str, int] = {}
        for step in range(case.get("steps", 3)):
            if step == 1:
                gc.collect()
                storages.peak = storages.live
            tokens = torch.randint(0, vocabulary, (case["micro_batch"], case["sequence"]))
            loss = engine(input_ids=tokens, labels=tokens, use_cache=False).loss
            told["forward"] = storages.live
            engine.backward(loss)
            del loss
            told["backward"] = storages.live
            engine.step()
            told["step"] = storages.live
        told["peak"] = storages.peak
        del engine, model, tokens
    gc.collect()
    return told


def main() -> None:
    # It would be compiled at the start, and serves inference only.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    dist.init_process_group("gloo")
    for case in json.loads(sys.argv[1]):
        try:
            told: dict[str, Any] = measure(case)
        except Exception as error:  # noqa: BLE001 (told to the reader of the table)
            told = {"error": f"{type(error).__name__}: {error}"[:300]}
        if dist.get_rank() == 0:
            print("MEASURED", json.dumps({"name": case["name"], **told}), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

"""One rank of a measurement: trains each case of a JSON list for some steps and counts its tensors' bytes.

Under torchrun. The count is of storages that live, each once: exact on a CPU, where the memory of a process
is not.
"""

from __future__ import annotations

import gc
import json
import sys
import weakref
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the storages made inside the block that still live, and the most there were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu":
                self._add(leaf.untyped_storage())
        return found

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known or not storage.nbytes():
            return
        size = storage.nbytes()

        def gone(_: object) -> None:
            self.live -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


def model_of(case: dict[str, Any]) -> torch.nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    values = dict(case["model"])
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    model: torch.nn.Module = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
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

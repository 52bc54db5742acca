"""What a training process holds, by kind, and what its host sends: counted while it trains.

`watch()` before the model is built, `told()` after each step. A storage is counted once, however many tensors
look at it; the memory of the process, which also holds libraries and what malloc keeps, is not asked.
"""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

VARIABLE = "CLUSTERCTL_MEASURE"
"""So many optimizer steps are counted, from the first on: two, because states come with the first. That is
slow, so that those steps are none to be timed."""
MOST_PASSES = 1000
"""An optimizer that is none of torch's steps unseen: counting ends here, and tells nothing."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ARPHRD_INFINIBAND = "32"
"""The type of an interface for IP on InfiniBand, as sysfs tells it."""


class Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the storages on one kind of device that still live, and the most there were.

    All that are made inside the block count, and what Python knows of from before.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.live = self.peak = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor):
                self.add(leaf)
        return found

    def add(self, tensor: torch.Tensor) -> None:
        if tensor.device.type != self.device or not (size := _storage(tensor)[1]):
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return

        def gone(_: object) -> None:
            self.live -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


class Watch(Storages):
    """Follows a loop by what every loop does: modules are called, gradients flow back, an optimizer steps."""

    def __init__(self, steps: int) -> None:
        super().__init__(DEVICE)
        self.wanted, self.steps, self.passes = steps, 0, 0
        self.phase = "stepped"
        self.before_forward = self.activations = self.kept = self.accumulation = 0
        for tensor in _of_type(torch.Tensor):
            self.add(tensor)
        self._hooks = [
            register_module_forward_pre_hook(lambda *_: self._module_called()),
            register_optimizer_step_pre_hook(lambda *_: self._optimizer_called()),
        ]
        self.__enter__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.phase == "forward" and _in_backward():
            self.phase = "backward"
            self.activations = max(self.activations, self.live - self.before_forward)
        elif self.phase == "backward" and not _in_backward():
            self.phase, self.kept = "reducing", self.live
        elif self.phase == "reducing":
            self.kept = min(self.kept, self.live)
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _module_called(self) -> None:
        if self.phase == "forward" or _in_backward():  # checkpointed activations are computed again
            return
        if self.phase == "stepped":
            if self.steps == self.wanted:
                self._end()
                return
            # The last step counts: by then the optimizer has its states, and buffers their final size.
            self.activations = self.accumulation = 0
            self.peak = self.live
        elif self.passes == MOST_PASSES:
            self._leave()
            return
        self.phase, self.before_forward = "forward", self.live
        self.accumulation += 1
        self.passes += 1

    def _optimizer_called(self) -> None:
        if self.phase == "stepped":  # DeepSpeed steps once for each group
            return
        self.phase = "stepped"
        self.steps += 1

    def _leave(self) -> None:
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def _end(self) -> None:
        self._leave()
        weights = _weights()
        states = _but(_states(), weights)
        held, stepping = _bytes(weights, self.device), _bytes(states, self.device)
        found = {
            "weights_bytes": held,
            "optimizer_bytes": stepping,
            "gradients_bytes": max(0, self.kept - held - stepping),
            "activations_bytes": self.activations,
            "counted_peak_bytes": self.peak,
            "accumulation": self.accumulation,
            "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
            **_parameters(),
        }
        if self.device != "cpu":
            found["host_bytes"] = _bytes(_of_type(torch.Tensor), "cpu")
        _found.update(found)


_found: dict[str, Any] = {}
_sent: int | None = None


def watch() -> None:
    """Count the first steps of this process, if its environment asks for that. Before the model is built:
    what C++ holds alone, such as the buckets of DistributedDataParallel, is seen while it is made."""
    global _sent
    if not (wanted := os.environ.get(VARIABLE, "")).isdigit() or int(wanted) < 1:
        return
    _sent = bytes_sent()
    Watch(int(wanted))


def told() -> dict[str, Any]:
    """What has been found since this was asked last, for the line of the step that is over: `*_bytes` of this
    rank, once; what the host sent, if it counts that, each time and by its first rank only. Empty without
    `watch`."""
    global _sent
    if not os.environ.get(VARIABLE):
        return {}
    found = dict(_found)
    _found.clear()
    if os.environ.get("LOCAL_RANK", "0") == "0":
        before, _sent = _sent, bytes_sent()
        if before is not None and _sent is not None:
            found["sent_bytes"] = _sent - before
    return found


def bytes_sent(root: Path = Path("/")) -> int | None:
    """Since the boot of this host: on the interfaces that gloo or NCCL was told to take, and, as NCCL takes
    them first, by its InfiniBand and RoCE ports. None where one does not tell: a part would mislead."""
    over_nccl = DEVICE == "cuda"
    named = _interfaces(root, os.environ.get("NCCL_SOCKET_IFNAME" if over_nccl else "GLOO_SOCKET_IFNAME", ""))
    if not named:
        return None
    total = 0
    for port in (root / "sys/class/infiniband").glob("*/ports/*") if over_nccl else ():
        if _told(port / "state").partition(":")[2].strip() in ("", "ACTIVE"):
            words = _told(port / "counters/port_xmit_data")
            if not words.isdigit():  # EFA has no such counter, iWARP says "N/A"
                return None
            total += 4 * int(words)
    for name, sent in named.items():
        # What goes over IP on InfiniBand is among what its port has sent.
        if not (over_nccl and _told(root / "sys/class/net" / name / "type") == ARPHRD_INFINIBAND):
            total += sent
    return total


def _interfaces(root: Path, wanted: str) -> dict[str, int]:
    """Bytes that each of the `wanted` interfaces has sent. NCCL's names are beginnings, after a "=" whole;
    where it is only told which not to take ("^docker"), nobody here knows which it takes."""
    prefixes = DEVICE == "cuda" and not wanted.startswith("=")
    names = tuple(name for name in wanted.lstrip("=").replace(" ", "").split(",") if name)
    found = {}
    for line in (root / "proc/net/dev").read_text().splitlines()[2:]:
        name, _, counters = line.partition(":")
        name = name.strip()
        if name in names or (prefixes and name.startswith(names)):
            found[name] = int(counters.split()[8])
    return found


def _told(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1


def _of_type(kind: type) -> list[Any]:
    """What Python's collector knows of; its type is asked, not the object, which may be a proxy."""
    return [each for each in gc.get_objects() if issubclass(type(each), kind)]


def _weights() -> list[torch.Tensor]:
    """Parameters and buffers of all modules, and ZeRO-3's shares of them."""
    found: list[torch.Tensor] = []
    for module in _of_type(torch.nn.Module):
        for each in (*module._parameters.values(), *module._buffers.values()):
            if each is not None:
                found.append(each)
                if hasattr(each, "ds_tensor"):
                    found.append(each.ds_tensor)
    return found


def _states() -> list[torch.Tensor]:
    """What optimizers keep: moments, and the copies that they update in place of the weights."""
    found: list[torch.Tensor] = []
    for optimizer in _of_type(torch.optim.Optimizer):
        for group in optimizer.param_groups:
            found += group["params"]
        for parameter, state in optimizer.state.items():
            found.append(parameter)  # ZeRO-3 lends its groups to the optimizer for the step only
            found += [each for each in tree_leaves(state) if isinstance(each, torch.Tensor)]
    return found


def _parameters() -> dict[str, Any]:
    """How many there are, whole, and of which type most of them are."""
    sizes: dict[str, int] = {}
    for each in {id(w): w for w in _weights() if isinstance(w, torch.nn.Parameter)}.values():
        name = str(each.dtype).removeprefix("torch.")
        sizes[name] = sizes.get(name, 0) + getattr(each, "ds_numel", each.numel())
    most = max(sizes, key=lambda name: sizes[name], default="")
    return {"parameters": sum(sizes.values()), "dtype": most}


def _storage(tensor: torch.Tensor) -> tuple[int, int]:
    """Its address and its bytes; none where it has none, as a fake or a sparse tensor."""
    try:
        storage = tensor.untyped_storage()
        return storage.data_ptr(), storage.nbytes()
    except RuntimeError:
        return 0, 0


def _but(tensors: Iterable[torch.Tensor], others: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    taken = {_storage(each)[0] for each in others}
    return [each for each in tensors if _storage(each)[0] not in taken]


def _bytes(tensors: Iterable[torch.Tensor], device: str) -> int:
    return sum(dict(_storage(each) for each in tensors if each.device.type == device).values())

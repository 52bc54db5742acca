"""What the DeepSpeed of this interpreter accepts in its config, as JSON on stdout.

Nothing is written down here twice: sections with a pydantic model tell their fields, and what else
DeepSpeed reads is found by letting it read a config that notes every key it is asked for.
"""

import enum
import importlib
import inspect
import json
import os
import pathlib
import sys
import typing

_MODELS = {
    "zero_optimization": "runtime.zero.config:DeepSpeedZeroConfig",
    "fp16": "runtime.precision_config:DeepSpeedFP16Config",
    "bf16": "runtime.precision_config:DeepSpeedBF16Config",
    "bfloat16": "runtime.precision_config:DeepSpeedBF16Config",
    "hybrid_engine": "runtime.config:HybridEngineConfig",
    "compile": "compile.config:CompileConfig",
    "tensor_parallel": "runtime.tensor_parallel.config:TPTrainingConfig",
    "tensorboard": "monitor.config:TensorBoardConfig",
    "wandb": "monitor.config:WandbConfig",
    "csv_monitor": "monitor.config:CSVConfig",
    "comet": "monitor.config:CometConfig",
    "comms_logger": "comm.config:CommsLoggerConfig",
    "weight_quantization": "inference.config:WeightQuantConfig",
}
_READ_BY_NAME = (
    "activation_checkpointing",
    "aio",
    "autotuning",
    "checkpoint",
    "data_types",
    "expert_parallel",
    "flops_profiler",
    "torch_autocast",
)
_ELSEWHERE = ("data_parallel_size", "sequence_parallel_size", "vocabulary_size")
"""Read by deepspeed.initialize, before the config's own reader, or after it."""
_ADAM = ("torch_adam", "adam_w_mode", "fp32_optimizer_states")
"""Taken out of the optimizer's parameters before it sees them."""
_ADAMS = {"torch": "", "gpu": "ops.adam:FusedAdam", "cpu": "ops.adam:DeepSpeedCPUAdam"}
"""Which one it is depends on torch_adam, and on where the optimizer is."""
_SCHEDULERS = ("LRRangeTest", "OneCycle", "WarmupLR", "WarmupDecayLR", "WarmupCosineLR")
_PLAIN = {bool: "bool", int: "int", float: "float", str: "str", dict: "dict", list: "list", tuple: "list"}


class _Noted(typing.Dict[str, typing.Any]):
    """An empty config that remembers what it was asked for."""

    def __init__(self, sections=()):
        super().__init__({name: _Noted() for name in sections})
        self.asked = set()

    def get(self, key, default=None):
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key):
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key):
        self.asked.add(key)
        return super().__contains__(key)

    def keys(self):
        return self

    def __bool__(self):
        return True


def schema():
    """The whole of it. Raises ImportError where there is no DeepSpeed."""
    deepspeed = importlib.import_module("deepspeed")
    config = importlib.import_module("deepspeed.runtime.config")
    noted = _Noted(_READ_BY_NAME)
    reader = object.__new__(config.DeepSpeedConfig)
    reader._initialize_params(noted)
    models = {name: _found(path) for name, path in _MODELS.items()}
    return {
        "version": deepspeed.__version__,
        "top": sorted(noted.asked | set(_ELSEWHERE) | set(models)),
        "removed": _removed(config, "_REMOVED_TOP_LEVEL_CONFIG_KEYS"),
        "removed_zero": _removed(config, "_REMOVED_ZERO_CONFIG_KEYS"),
        "strict": {name: _section(model) for name, model in models.items() if model is not None},
        "loose": {name: sorted(noted[name].asked) for name in _READ_BY_NAME if noted[name].asked},
        "optimizers": sorted(config.DEEPSPEED_OPTIMIZERS),
        "torch_optimizers": _classes("torch.optim", "Optimizer"),
        "adam": {where: sorted(_adam(path)) for where, path in _ADAMS.items()},
        "schedulers": {name: _call(_found("runtime.lr_schedules:" + name)) for name in _SCHEDULERS},
        "torch_schedulers": _classes("torch.optim.lr_scheduler", "LRScheduler"),
    }


def _found(path):
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module("deepspeed." + module), name, None)
    except ImportError:
        return None


def _removed(config, name):
    return sorted(getattr(config, name, {}))


def _section(model):
    return {
        "forbids": model.model_config.get("extra") == "forbid",
        "fields": [_field(name, info) for name, info in sorted(model.model_fields.items())],
    }


def _field(name, info):
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    told = {"name": name, "alias": info.alias or "", **_type(info.annotation)}
    for bound in info.metadata:
        for word in ("ge", "gt", "le", "lt"):
            value = getattr(bound, word, None)
            if value is not None:
                told[word] = value
    if extra.get("deprecated"):
        told["deprecated"] = True
        told["instead"] = str(extra.get("new_param", ""))
    return told


def _type(annotation):
    kinds, section = set(), None
    choices = []  # type: typing.List[typing.Any]
    left = [annotation]
    while left:
        each = left.pop()
        origin = typing.get_origin(each)
        if origin is typing.Union or type(each).__name__ == "UnionType":
            left += typing.get_args(each)
        elif origin is not None and type(each).__name__ == "_AnnotatedAlias":
            left.append(typing.get_args(each)[0])
        elif origin is not None and str(origin).endswith("Literal"):
            kinds.add("choice")
            choices += typing.get_args(each)
        elif each is type(None):
            kinds.add("null")
        elif isinstance(each, type) and issubclass(each, enum.Enum):
            kinds.add("choice")
            choices += [member.value for member in each]
        elif isinstance(each, type) and issubclass(each, pathlib.PurePath):
            kinds.add("str")
        elif hasattr(each, "model_fields"):
            kinds.add("section")
            section = _section(each)
        elif origin in _PLAIN or each in _PLAIN:
            kinds.add(_PLAIN[origin if origin in _PLAIN else each])
        else:
            kinds.add("any")
    told = {"kinds": sorted(kinds)}
    if choices:
        told["choices"] = choices if all(isinstance(c, (str, int)) for c in choices) else []
    if section is not None:
        told["section"] = section
    return told


def _classes(module, base):
    inside = importlib.import_module(module)
    kind = getattr(inside, base, None) or inside._LRScheduler
    named = [(name, each) for name, each in vars(inside).items() if not name.startswith("_")]
    return {
        name: _call(each)
        for name, each in sorted(named)
        if isinstance(each, type) and issubclass(each, kind) and each is not kind
    }


def _adam(path):
    optimizers = importlib.import_module("torch.optim")
    classes = [_found(path)] if path else [optimizers.Adam, optimizers.AdamW]
    return set(_ADAM).union(*(_call(each)["all"] for each in classes))


def _call(made):
    """The parameters of a class beyond its first, which is the model's parameters or the optimizer."""
    if made is None:
        return {"all": [], "required": []}
    given = list(inspect.signature(made.__init__).parameters.values())[2:]
    named = [each for each in given if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    return {
        "all": [each.name for each in named],
        "required": [each.name for each in named if each.default is each.empty],
    }


def main():
    shown = sys.stdout
    with open(os.devnull, "w") as nowhere:
        sys.stdout = nowhere  # DeepSpeed says this and that there when it is imported
        try:
            found = schema()
        except ImportError:
            return 3
        finally:
            sys.stdout = shown
    print(json.dumps(found, separators=(",", ":"), sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())

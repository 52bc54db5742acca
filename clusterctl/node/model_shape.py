"""What transformers builds of a model's config.json, named on the command line: JSON on stdout.

Built without memory (the meta device) and without weights; code that a config brings with it is never run.
"""

import collections
import importlib
import json
import os
import sys

_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "moe_intermediate_size",
    "num_experts_per_tok",
    "vocab_size",
    "max_position_embeddings",
)


def shape(path):
    """Counts and sizes. Raises ImportError without transformers, anything else where it makes no model."""
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    config = transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = _class(transformers, config)._from_config(config)
    linears = collections.Counter(
        (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and any(part.isdigit() for part in name.split("."))
    )
    text = config.get_text_config()
    sizes = {name: getattr(text, name, None) for name in _SIZES}
    if config.is_encoder_decoder:
        # Called so is the number of one half's.
        one, names = sizes["num_hidden_layers"], ("num_decoder_layers", "decoder_layers")
        other = next((found for name in names if (found := getattr(config, name, None))), one)
        sizes["num_hidden_layers"] = one and one + other
    return {
        "parameters": sum(each.numel() for each in model.parameters()),
        "largest": max(map(_size, _parts(torch, model))),
        "linears": [[*key, count] for key, count in sorted(linears.items())],
        **{name: value for name, value in sizes.items() if type(value) is int and value > 0},
    }


def _class(transformers, config):
    named = [getattr(transformers, name, None) for name in config.architectures or ()]
    found = next((each for each in named if hasattr(each, "_from_config")), None)
    if found is not None:
        return found
    known = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    return (known if type(config) in known else transformers.MODEL_MAPPING)[type(config)]


def _parts(torch, model):
    """What ZeRO-3 gathers in one piece: a layer, an embedding."""
    for each in model.modules():
        if isinstance(each, torch.nn.ModuleList):
            yield from each
        elif isinstance(each, torch.nn.Embedding):
            yield each


def _size(module):
    return sum(each.numel() for each in module.parameters())


def main():
    shown = sys.stdout
    with open(os.devnull, "w") as nowhere:
        sys.stdout = nowhere
        try:
            found = shape(sys.argv[1])
        except ImportError:
            return 3
        finally:
            sys.stdout = shown
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

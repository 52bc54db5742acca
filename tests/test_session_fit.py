"""Which model, which machines; and the verb as it is typed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusterctl.cli.app import app
from clusterctl.errors import UsageError
from clusterctl.session.fit import read_model, read_size

CONFIG = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
    "max_position_embeddings": 512,
}
SIZE = 3_950_848


def fit(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clusterctl", "fit", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_model_is_a_folder_a_file_a_size_or_in_the_cache(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_model(str(model)).shape.parameters == SIZE
    assert read_model(str(model / "config.json")).shape.parameters == SIZE
    assert read_model("1.3b").shape.parameters == 1_300_000_000
    cached = model / "hub" / "models--some--model"
    (cached / "snapshots" / "abc").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc\n")
    (cached / "snapshots" / "abc" / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(model))
    assert read_model("some/model").shape.parameters == SIZE
    with pytest.raises(UsageError, match="hf download"):
        read_model("some/other")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("7B", 7 * 10**9),
        ("7e9", 7 * 10**9),
        ("1.3e+9", 1_300_000_000),
        ("350m", 350 * 10**6),
        ("124000000", 124 * 10**6),
        ("big", None),
        ("7GB", None),
        ("1e400", None),
        ("-7B", None),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("content", ["", "[]", "{", '{"hidden_size": 8}', '{"model_type": 7}', "\xff"])
def test_a_config_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(UsageError):
        read_model(str(tmp_path))


BERT = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "hidden_size": 96,
    "intermediate_size": 200,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "vocab_size": 1000,
    "max_position_embeddings": 64,
    "auto_map": {"AutoConfig": "evil.Config"},
}


@pytest.mark.training
def test_a_family_without_formulas_is_counted_by_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(BERT))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    shape = read_model(str(tmp_path)).shape
    built = transformers.BertForMaskedLM(transformers.BertConfig(**BERT))
    assert shape.parameters == sum(each.numel() for each in built.parameters())
    assert (shape.family, shape.layers, shape.limit, shape.assumed) == ("bert", 3, 64, True)
    assert shape.in_linears == 3 * (4 * 96 * 96 + 2 * 96 * 200)
    assert not (tmp_path / "run").exists(), "code of a config is never run"


T5 = {"model_type": "t5", "d_model": 64, "d_ff": 128, "d_kv": 16, "num_layers": 2, "num_decoder_layers": 3}
VIT = {"model_type": "vit", "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 6}


@pytest.mark.training
@pytest.mark.parametrize(("config", "layers", "words"), [(T5, 5, 32128), (VIT, 3, 0)], ids=["t5", "vit"])
def test_both_halves_of_a_model_count_and_one_without_words_has_no_logits(
    tmp_path: Path, config: dict[str, Any], layers: int, words: int
) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = read_model(str(tmp_path)).shape
    assert (shape.layers, shape.vocabulary) == (layers, words)


def test_the_verb_answers_without_a_host_and_writes_a_config(model: Path) -> None:
    output = model / "ds.json"
    machines = ("--gpu-memory", "24GB", "--gpus", "4", "--hosts", "2", "--bandwidth", "10Gbit/s")
    done = fit(str(model), *machines, "--json", "--write", str(output))
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["schema"] == "clusterctl.fit/1" and told["shape"]["parameters"] == SIZE
    assert told["job"]["sequence"] == 512, "as long as the model can"
    asked = {"ranks": [4, 4], "device": 24 * 10**9, "host": None, "bandwidth": 1.25e9, "library": "nccl"}
    assert told["world"] == asked
    assert told["advice"]["ranked"][0] == "zero1"
    assert json.loads(output.read_text())["zero_optimization"]["stage"] == 1
    assert done.stderr.endswith(f"next: clusterctl lint {output} --ranks 8\n")
    with pytest.raises(UsageError, match="exists"):
        app(["fit", str(model), *machines, "--write", str(output)], standalone_mode=False)


def test_a_page_fits_the_screen() -> None:
    done = fit(
        "7B", "--gpu-memory", "24GB", "--gpus", "4", "--hosts", "2", "--bandwidth", "1.1GB/s", "--gas", "8"
    )
    assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= 80
    assert "zero3-offload" in done.stdout and "recommended" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "which model"),
        (("7B", "--params", "7B"), "a model and --params"),
        (("--params", "seven"), "not a size"),
        (("7B", "--gpu-memory", "much"), "not a size"),
        (("7B", "--gpus", "2", "--bandwidth", "fast"), "not a rate"),
        (("7B", "--gpus", "2", "--hostfile", "x"), "hosts to ask"),
        (("7B", "--lora", "--qlora", "--gpus", "1"), "exclude"),
        (("7B", "--gpus", "1", "--strategy", "zero9"), "zero9 is not one of them"),
        (("7B", "--host-memory", "64GB", "--strategy", "zero3-offload"), "none of what these hosts"),
        (("7B", "--gpus", "1", "--lora-rank", "8"), "--lora-rank without adapters"),
        (("7X", "--gpus", "1"), "7X is not a size"),
        (("./7B", "--gpus", "1"), "no such file or directory"),
        (("org/none", "--gpus", "1"), "none of that name in the Hugging Face cache"),
        (("7B", "--gpus", "1", "--write", "/nowhere/x"), "no folder"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        app(["fit", *(word.format(tmp=tmp_path) for word in words)], standalone_mode=False)


def test_the_config_of_hosts_without_gpus_has_nothing_that_lint_would_name(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = model / "a config.json"
    cpus = ("--hosts", "2", "--host-memory", "64GB", "--strategy", "zero2", "--write", str(output))
    assert app(["fit", str(model), *cpus], standalone_mode=False) == 0
    shown = capsys.readouterr()
    assert "2 ranks on 2 hosts with CPUs" in shown.out and "zero2, as asked: fits" in shown.out
    typed = shlex.split(shown.err.partition("next: ")[2])
    assert app([*typed[1:], "--json"], standalone_mode=False) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == []


def test_what_fits_nowhere_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(["fit", "70B", "--gpu-memory", "8GB"], standalone_mode=False) == 1
    assert "nothing fits" in capsys.readouterr().out

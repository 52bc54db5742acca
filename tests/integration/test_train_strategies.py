"""Every strategy takes the steps of a plain loop, and goes on from what another number of ranks has saved."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

for package in ("torch", "deepspeed", "tokenizers", "transformers"):
    pytest.importorskip(package)

import torch  # noqa: E402

from clusterctl.sandbox import Sandbox  # noqa: E402
from clusterctl.sandbox.spec import numbered  # noqa: E402
from tests.integration import plain_ddp  # noqa: E402
from tests.integration.launching import launch  # noqa: E402
from tests.integration.pretraining import (  # noqa: E402
    BIN,
    SCRIPT,
    TINY,
    alone,
    environment,
    free_port,
    losses,
    records,
    run,
    torchrun,
)

pytestmark = pytest.mark.training

STEPS = 20
# Over two hosts of two slots.
HOSTS = {1: "node1:0", 2: "node1:0@node2:0", 3: "node1@node2:0", 4: "node1@node2"}
EACH = Path(__file__).with_name("pretrain_each.py")
ON_CPU = ("ddp", "zero1", "zero2", "zero3", "zero2-offload", "zero3-offload")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens are made by whichever test comes first."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all hosts see."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def box(namespaces: None, shared: Path) -> Iterator[Sandbox]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shared)  # what a sandbox is started in, its hosts see
        made = Sandbox.create("strategies", numbered(2, (2,)))
    with made:
        yield made


def plain(tokens: Path, *, ranks: int, passes: int = 1) -> list[float]:
    """The losses of the loop that is not ours."""
    launcher = [str(BIN / "torchrun"), f"--nproc-per-node={ranks}", f"--master-port={free_port()}"]
    done = run(
        [*launcher, plain_ddp.__file__, str(tokens), str(STEPS), str(passes)], environment(tokens.parent)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    curve: list[float] = json.loads(done.stdout)
    return curve


def test_zero_3_takes_the_steps_of_a_plain_loop_and_is_exported(cache: Path, tmp_path: Path) -> None:
    """With its parts made divided, activations computed again, and the vocabulary as it is."""
    metrics, exported = tmp_path / "metrics.jsonl", tmp_path / "exported"
    asked = ("--strategy", "zero3", "--steps", STEPS, "--gas", 2, "--activation_checkpointing")
    end = ("--sample", "First Citizen:", "--sample_tokens", 5, "--export", exported, "--metrics", metrics)
    done = run(torchrun(*asked, *end), environment(cache))
    assert done.returncode == 0, done.stdout + done.stderr
    curve = list(losses(metrics).values())
    (tokens,) = cache.glob("gpt-pretrain/*/training.uint16")
    expected = plain(tokens, ranks=2, passes=2)
    assert expected[-1] < expected[0] - 0.5
    assert curve == pytest.approx(expected, abs=1e-5)
    assert "sample: First Citizen:" in done.stdout
    assert evaluated_by_transformers(exported, cache) == pytest.approx(
        records(metrics, "eval")[-1]["loss"], abs=1e-4
    )


def evaluated_by_transformers(exported: Path, cache: Path) -> float:
    """What GPT-2 of transformers makes of the exported weights, on the held-out text of one evaluation."""
    script = """
import sys, numpy, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
assert type(model).__name__ == "GPT2LMHeadModel", type(model)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
assert tokenizer.decode(tokenizer("Now is the winter").input_ids) == "Now is the winter"
assert tokenizer.eos_token_id == model.config.eos_token_id != None
text = numpy.fromfile(sys.argv[2], dtype=numpy.uint16)[: 8 * 64 + 1].astype(numpy.int64)
ids = torch.from_numpy(text)
with torch.no_grad():
    logits = model(ids[:-1].view(8, 64)).logits
assert logits.shape[-1] == len(tokenizer), "no word that the tokenizer lacks"
print("loss", torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:]).item())
"""
    (heldout,) = cache.glob("gpt-pretrain/*/heldout.uint16")
    env = environment(cache, HF_HUB_OFFLINE="1")
    done = run([sys.executable, "-c", script, str(exported), str(heldout)], env)
    assert done.returncode == 0, done.stdout + done.stderr
    return float(done.stdout.split("loss ")[1])


def launched(box: Sandbox, shared: Path, ranks: int, jobs: list[list[str]]) -> str:
    """What they print, one after the other, on so many ranks."""
    common = [*TINY, "--cache_dir", str(shared / "cache")]
    words = [EACH.name, str(SCRIPT.parent), json.dumps([[*common, *job] for job in jobs])]
    options = ["--include", HOSTS[ranks], "--workdir", str(EACH.parent)]
    done = launch(box, *words, cwd=shared, options=options)
    assert done.code == 0, done.text
    return done.text


@pytest.mark.long
@pytest.mark.sandbox
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_strategy_takes_the_steps_of_a_plain_loop(box: Sandbox, shared: Path, ranks: int) -> None:
    metrics = {strategy: shared / f"{strategy}-{ranks}.jsonl" for strategy in ON_CPU}
    asked = ["--steps", str(STEPS), "--strategy"]
    launched(box, shared, ranks, [[*asked, name, "--metrics", str(path)] for name, path in metrics.items()])
    (tokens,) = shared.glob("cache/*/training.uint16")
    expected = plain(tokens, ranks=ranks)
    assert expected[-1] < expected[0] - 0.5
    for strategy, path in metrics.items():
        curve = list(losses(path).values())
        far = max(abs(one - other) for one, other in zip(curve, expected, strict=True))
        print(f"{strategy} on {ranks} ranks: at most {far:.1e} from the plain loop")
        assert far < 1e-5, (strategy, curve)


@pytest.mark.long
@pytest.mark.sandbox
@pytest.mark.timeout(1800)
def test_a_run_goes_on_with_four_two_one_and_three_ranks(box: Sandbox, shared: Path) -> None:
    """The batch is 24 samples throughout; its curve is that of a run which nothing disturbed."""

    def metrics(strategy: str, name: object) -> Path:
        return shared / f"{strategy}-resumed-{name}.jsonl"

    def job(strategy: str, ranks: int, steps: int, name: object, *more: str) -> list[str]:
        batch = ["--gas", str(12 // ranks), "--lr_decay_steps", "8", "--strategy", strategy]
        return [*batch, "--steps", str(steps), "--metrics", str(metrics(strategy, name)), *more]

    def saved(strategy: str) -> Path:
        return shared / f"{strategy}-saved"

    launched(box, shared, 2, [job(strategy, 2, 8, "whole") for strategy in ON_CPU])
    for ranks, steps in ((4, 2), (2, 4), (1, 6), (3, 8)):
        on = {each: ("--save_dir", str(saved(each)), "--resume", "auto") for each in ON_CPU}
        said = launched(box, shared, ranks, [job(each, ranks, steps, ranks, *on[each]) for each in ON_CPU])
        assert "not an exact continuation" not in said
    for strategy in ON_CPU:
        parts = {}
        for ranks in (4, 2, 1, 3):
            parts.update(losses(metrics(strategy, ranks)))
        assert parts == pytest.approx(losses(metrics(strategy, "whole")), abs=1e-5), strategy
        kept = sorted(path.name for path in saved(strategy).glob("step*"))
        assert kept == ["step-000006", "step-000008"]


def test_a_zero_checkpoint_is_converted_for_another_number_of_ranks(cache: Path, tmp_path: Path) -> None:
    """On hosts that share nothing, too: what a host lacks is sent to it."""
    common = ("--strategy", "zero1", "--steps", 4)
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    saving = ("--save_dir", tmp_path / "saved", "--save_every", 2)
    done = run(torchrun(*common, *saving, "--gas", 1, "--metrics", whole), environment(cache))
    assert done.returncode == 0, done.stdout + done.stderr
    checkpoint = tmp_path / "saved" / "step-000002"
    done = run(alone(*common, "--gas", 2, "--resume", checkpoint, "--metrics", resumed), environment(cache))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resumed" in done.stdout and "not an exact continuation" not in done.stdout
    assert losses(resumed) == pytest.approx({step: losses(whole)[step] for step in (3, 4)}, abs=1e-5)
    assert sorted(path.name for path in (tmp_path / "saved").glob("*step*")) == ["step-000002", "step-000004"]

    # From the command line: the newest, as 32 bit, whatever the ranks kept.
    export = [sys.executable, str(SCRIPT.with_name("export.py")), str(tmp_path / "saved" / "latest")]
    done = run([*export, str(tmp_path / "out")], environment(cache))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step-000004" in done.stdout
    assert evaluated_by_transformers(tmp_path / "out", cache) == pytest.approx(
        records(whole, "eval")[-1]["loss"], abs=1e-4
    )


@pytest.mark.long
@pytest.mark.timeout(3600)  # a compiler on cores that others use
def test_it_can_be_compiled(cache: Path, tmp_path: Path) -> None:
    if not torch.cuda.is_available() and not any(Path("/usr/bin", name).exists() for name in ("g++", "c++")):
        pytest.skip("no C++ compiler")
    curves: list[list[float]] = []
    for compiled in ((), ("--compile",)):
        metrics = tmp_path / f"metrics{len(curves)}.jsonl"
        arguments = ("--strategy", "ddp", "--steps", 3, "--metrics", metrics, *compiled)
        done = run(alone(*arguments), environment(cache), patience=1700)
        assert done.returncode == 0, done.stdout + done.stderr
        curves.append(list(losses(metrics).values()))
    assert curves[1] == pytest.approx(curves[0], abs=1e-4)

"""The workload under the launchers that people use, without anything of clusterctl."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

for package in ("torch", "deepspeed", "tokenizers"):
    pytest.importorskip(package)

from tests.integration.pretraining import (  # noqa: E402
    BIN,
    PATIENCE,
    SCRIPT,
    TINY,
    alone,
    environment,
    free_port,
    losses,
    records,
    run,
    run_together,
    torchrun,
    torchrun_nodes,
)

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens are made by whichever test comes first."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def straight(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps without a break, on a machine that has no compiler, saved in the middle and at the end."""
    home = tmp_path_factory.mktemp("straight")
    tools = home / "bin"
    tools.mkdir()
    for name in ("env", "sh", "uname", "hostname"):
        found = next(Path(place) / name for place in ("/usr/bin", "/bin") if (Path(place) / name).exists())
        (tools / name).symlink_to(found)
    env = environment(cache, PATH=str(tools))
    arguments = ("--steps", 6, "--save_dir", home / "saved", "--save_every", 3, "--dropout", 0.1)
    done = run(torchrun(*arguments, "--metrics", home / "metrics.jsonl", "--eval_every", 2), env)
    assert done.returncode == 0, done.stdout + done.stderr
    (home / "output").write_text(done.stdout)
    return home


def test_it_trains_without_a_compiler_and_says_how(straight: Path) -> None:
    said = (straight / "output").read_text()
    assert "ZeRO stage 2" in said and "cpu over gloo" in said
    for rank in (0, 1):
        assert f"rank {rank} of 2 on {os.uname().nodename}: local rank {rank}, cpu, pid " in said
        assert f"rank {rank} on {os.uname().nodename}: done after 6 steps" in said
    assert "step 6/6  loss " in said and "peak RSS" in said and "MFU n/a" in said
    curve = losses(straight / "metrics.jsonl")
    assert list(curve) == [1, 2, 3, 4, 5, 6]
    assert curve[6] < curve[1] < 9.2
    evaluations = records(straight / "metrics.jsonl", "eval")
    assert [line["step"] for line in evaluations] == [2, 4, 6]
    assert evaluations[-1]["perplexity"] < evaluations[0]["perplexity"] < 8192


def test_a_resumed_run_repeats_the_losses_to_the_last_bit(
    straight: Path, cache: Path, tmp_path: Path
) -> None:
    metrics = tmp_path / "metrics.jsonl"
    arguments = ("--steps", 6, "--dropout", 0.1, "--resume", straight / "saved" / "step-000003")
    done = run(torchrun(*arguments, "--metrics", metrics), environment(cache))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not an exact continuation" not in done.stdout
    whole = losses(straight / "metrics.jsonl")
    assert losses(metrics) == {step: whole[step] for step in (4, 5, 6)}
    assert records(metrics, "eval")[-1]["loss"] == records(straight / "metrics.jsonl", "eval")[-1]["loss"]


@pytest.mark.long
def test_a_new_run_does_not_mix_its_checkpoints_with_anothers(straight: Path, cache: Path) -> None:
    saved = straight / "saved"
    before = sorted(path.name for path in saved.iterdir())
    done = run(torchrun("--steps", 2, "--save_dir", saved), environment(cache))
    assert done.returncode != 0
    assert (
        "of an earlier run, and this one goes on at step 0\nhint: --resume auto" in done.stdout + done.stderr
    )
    assert sorted(path.name for path in saved.iterdir()) == before


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_nodes_without_a_shared_directory_keep_their_own_shards(cache: Path, tmp_path: Path) -> None:
    nodes = [tmp_path / "first", tmp_path / "second"]
    for node in nodes:
        node.mkdir()
    # Relative paths: every node saves below its own working directory. Two ranks here and one there.
    arguments = ("--steps", 4, "--save_dir", "saved", "--save_every", 2, "--metrics", "metrics.jsonl")
    for done in run_together(torchrun_nodes(*arguments, ranks=(2, 1)), environment(cache), nodes):
        assert done.returncode == 0, done.stdout
    held = [
        sorted(path.name[:14] for path in (node / "saved/step-000002").glob("zero*.pt")) for node in nodes
    ]
    assert held == [["zero_pp_rank_0", "zero_pp_rank_1"], ["zero_pp_rank_2"]]
    whole = losses(nodes[0] / "metrics.jsonl")
    (nodes[0] / "metrics.jsonl").unlink()
    # A file of the last checkpoint got lost on the second node: both must fall back to the one before.
    (lost,) = (nodes[1] / "saved/step-000004").glob("zero_pp_rank_2_*")
    lost.unlink()
    again = torchrun_nodes(*arguments, "--resume", "auto", ranks=(2, 1))
    first, second = run_together(again, environment(cache), nodes)
    assert first.returncode == second.returncode == 0, first.stdout + second.stdout
    assert f"step-000004 is passed over: {lost.name} is on no host of this run" in first.stdout
    assert losses(nodes[0] / "metrics.jsonl") == {step: whole[step] for step in (3, 4)}

    # In another order, with a node that was not there: what each lacks is sent to it.
    third = tmp_path / "third"
    third.mkdir()
    on = (*arguments, "--steps", 6, "--resume", "auto")
    moved = [third, nodes[1], nodes[0]]
    for done in run_together(torchrun_nodes(*on, ranks=(1, 1, 1)), environment(cache), moved):
        assert done.returncode == 0, done.stdout
    assert list(losses(third / "metrics.jsonl")) == [5, 6]
    # Without one of them, what it alone has is asked for, and nothing begins anew.
    fewer = [nodes[0], third]
    steps = (*on, "--steps", 7)
    first, second = run_together(torchrun_nodes(*steps, ranks=(1, 1)), environment(cache), fewer)
    assert first.returncode and second.returncode, first.stdout
    asked = "step-000006: zero_pp_rank_1_mp_rank_00_optim_states.pt is on no host of this run"
    assert asked in first.stdout and "hint: let " in first.stdout
    shutil.copytree(nodes[1] / "saved/step-000006", nodes[0] / "saved/step-000006", dirs_exist_ok=True)
    # On fewer ranks, each node converts what it was sent.
    first, second = run_together(torchrun_nodes(*steps, ranks=(1, 1)), environment(cache), fewer)
    assert first.returncode == second.returncode == 0, first.stdout + second.stdout
    assert "not an exact continuation: global_batch was 6, now 4" in first.stdout


def test_plain_data_parallel_resumes_on_other_numbers_of_ranks(cache: Path, tmp_path: Path) -> None:
    common = ("--strategy", "ddp", "--steps", 6, "--save_every", 2, "--keep", 9, "--eval_every", 2)
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    env = environment(cache, CLUSTERCTL_METRICS=str(tmp_path / "ranks.jsonl"))
    saving = ("--save_dir", tmp_path / "saved")
    done = run(torchrun(*common, *saving, "--gas", 2, "--metrics", whole), env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DistributedDataParallel, fp32" in done.stdout
    steps = [json.loads(line) for line in (tmp_path / "ranks.jsonl").read_text().splitlines()]
    assert [line["tokens"] for line in steps if line["step"] == 3 and "loss" in line] == [256, 256]
    assert {line["skipped"] for line in steps if "loss" in line} == {0}
    # One rank that passes four times a step sees the same samples.
    arguments = (*common, "--gas", 4, "--resume", tmp_path / "saved" / "step-000002", "--metrics", resumed)
    done = run(alone(*arguments, "--save_dir", tmp_path / "other"), environment(cache))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not an exact continuation" not in done.stdout
    assert losses(resumed) == pytest.approx({step: losses(whole)[step] for step in (3, 4, 5, 6)}, abs=1e-5)
    refused = run(alone("--strategy", "zero1", "--resume", tmp_path / "saved"), environment(cache))
    assert "step-000006 was written by --strategy ddp, this run is zero1" in refused.stderr


def test_sigterm_on_one_rank_saves_on_all_and_ends_with_143(cache: Path, tmp_path: Path) -> None:
    port = str(free_port())
    command = alone("--steps", 1000, "--log_every", 1, "--save_dir", tmp_path / "saved")
    ranks = [
        subprocess.Popen(
            command,
            env=environment(
                cache, RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        assert ranks[0].stdout is not None
        for line in ranks[0].stdout:
            if line.startswith("step ") and "3/1000 " in line:
                break
        ranks[1].send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=PATIENCE)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    assert [process.returncode for process in ranks] == [143, 143], said
    assert all("stopped by signal 15" in output for output in said)
    (saved,) = (tmp_path / "saved").glob("step-*/complete.json")
    assert len(list(saved.parent.glob("zero_pp_rank_*"))) == 2


def test_plain_deepspeed_runs_it(cache: Path, tmp_path: Path) -> None:
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("localhost slots=2\n")
    launcher = ["--no_ssh", "--node_rank=0", f"--hostfile={hostfile}", "--master_addr=127.0.0.1"]
    command = [str(BIN / "deepspeed"), *launcher, f"--master_port={free_port()}", str(SCRIPT), *TINY]
    metrics = tmp_path / "metrics.jsonl"
    env = environment(cache, PATH=f"{BIN}:{os.environ['PATH']}")
    done = run([*command, "--steps", "3", "--gas", "2", "--metrics", str(metrics)], env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 samples x 2 ranks x 2 accumulated = 512 tokens per step" in done.stdout
    assert list(losses(metrics)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('{"zero_optimization": {"stage": 2, "offload_gradients": true}}', "offload_gradients"),
        ('{"train_batch_size": 32, "gradient_accumulation_steps": 4}', "train_batch_size 32"),
    ],
)
def test_a_config_that_deepspeed_refuses_is_a_sentence(
    config: str, says: str, cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "ds.json"
    path.write_text(config)
    done = run(alone("--ds_config", path), environment(cache))
    assert done.returncode == 64, done.stdout + done.stderr
    assert says in done.stderr and "hint: " in done.stderr and "Traceback" not in done.stderr


def test_fp16_on_a_cpu_is_refused(cache: Path) -> None:
    done = run(alone("--dtype", "fp16"), environment(cache))
    assert done.returncode == 64
    assert "cannot train in fp16" in done.stderr and "--dtype bf16 or fp32" in done.stderr


@pytest.mark.long
def test_bf16_and_stage_3_resume_too(cache: Path, tmp_path: Path) -> None:
    common = ("--steps", 4, "--dtype", "bf16", "--zero_stage", 3)
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    saving = ("--save_dir", tmp_path / "saved", "--save_every", 2, "--metrics", whole)
    done = run(torchrun(*common, *saving), environment(cache))
    assert done.returncode == 0, done.stdout + done.stderr
    checkpoint = tmp_path / "saved" / "step-000002"
    done = run(torchrun(*common, "--resume", checkpoint, "--metrics", resumed), environment(cache))
    assert done.returncode == 0, done.stdout + done.stderr
    assert losses(resumed) == {step: losses(whole)[step] for step in (3, 4)}


@pytest.mark.long
def test_nodes_that_share_a_directory_write_one_set_of_shards(cache: Path, tmp_path: Path) -> None:
    arguments = ("--steps", 1, "--save_dir", tmp_path / "saved")
    commands = torchrun_nodes(*arguments, ranks=(1, 1))
    for done in run_together(commands, environment(cache), [tmp_path, tmp_path]):
        assert done.returncode == 0, done.stdout
    (record,) = (tmp_path / "saved").glob("*/complete.json")
    assert len(list(record.parent.glob("zero_pp_rank_*"))) == 2
    assert len(list(record.parent.glob("mp_rank_*"))) == 1
    assert list((tmp_path / "saved").glob(".seen-*")) == []


@pytest.mark.long
def test_only_the_newest_checkpoints_stay(cache: Path, tmp_path: Path) -> None:
    arguments = ("--steps", 5, "--save_dir", tmp_path, "--save_every", 1, "--keep", 3)
    assert run(alone(*arguments), environment(cache)).returncode == 0
    kept = sorted(path.name for path in tmp_path.glob("step-*"))
    assert kept == ["step-000003", "step-000004", "step-000005"]


@pytest.mark.long
def test_without_any_argument_it_learns_within_its_sixty_steps(cache: Path) -> None:
    command = [str(BIN / "torchrun"), "--nproc-per-node=2", f"--master-port={free_port()}", str(SCRIPT)]
    done = run(command, environment(cache))
    assert done.returncode == 0, done.stdout + done.stderr
    (evaluation,) = [line for line in done.stdout.splitlines() if line.startswith("eval 60/60")]
    assert float(evaluation.split("perplexity ")[1].split()[0]) < 600


def test_it_is_itself_wherever_it_lies(cache: Path, tmp_path: Path) -> None:
    """Inside a wheel the directory bears another name and the working directory is elsewhere."""
    place = tmp_path / "site-packages" / "clusterctl" / "_train"
    place.parent.mkdir(parents=True)
    place.symlink_to(SCRIPT.parent)
    command = [sys.executable, str(place / "pretrain.py"), *TINY, "--steps", "1", "--ds_config", "zero1"]
    done = run(command, environment(cache), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ZeRO stage 1" in done.stdout


def test_a_run_that_diverges_ends_and_keeps_its_good_checkpoints(cache: Path, tmp_path: Path) -> None:
    # Weights of 1e34 and more: the next step's loss is no number.
    saving = ("--save_dir", tmp_path / "saved", "--save_every", 1, "--keep", 1, "--log_every", 1)
    good = run(alone("--steps", 1, *saving), environment(cache))
    assert good.returncode == 0, good.stdout + good.stderr
    config = tmp_path / "ds.json"
    config.write_text('{"gradient_clipping": 0.0}')
    wild = ("--steps", 20, "--lr", "1e34", "--ds_config", config, "--metrics", tmp_path / "metrics.jsonl")
    done = run(alone(*wild, *saving, "--resume", "auto"), environment(cache))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "nan" in done.stderr or "inf" in done.stderr
    # That of step 2 has weights that are numbers, and no loss that is one.
    first, second = (tmp_path / "saved" / f"step-00000{step}" for step in (1, 2))
    assert f"this state is not saved\nhint: --resume {first} with" in done.stderr
    assert "Traceback" not in done.stderr
    assert "not an exact continuation: lr_decay_steps was 1, now 20, lr was 0.001, now 1e+34" in done.stdout
    assert len(losses(tmp_path / "metrics.jsonl")) < 9
    assert sorted((tmp_path / "saved").glob("step-*")) == [first, second]

"""Another launcher typed as the script: taken where it means exactly the same, else the command to type."""

from __future__ import annotations

import shlex
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterctl.errors import UsageError
from clusterctl.inventory.hostfile import parse
from clusterctl.plan import launcher_flags
from clusterctl.plan.model import Setting
from clusterctl.plan.nested import Nested, Script, recognise


def taken(text: str, **how: bool) -> Nested:
    script, *arguments = shlex.split(text)
    found = recognise(Script(script=script, arguments=tuple(arguments), **how))
    assert found is not None, text
    return found


def refused(text: str, **how: bool) -> UsageError:
    script, *arguments = shlex.split(text)
    with pytest.raises(UsageError) as caught:
        recognise(Script(script=script, arguments=tuple(arguments), **how))
    assert caught.value.exit_code == 64
    return caught.value


@pytest.mark.parametrize(
    ("typed", "script"),
    [
        ("python train.py a b", Script(script="train.py", arguments=("a", "b"))),
        ("python3 -u train.py", Script(script="train.py")),
        ("python -m pkg.train --lr 1", Script(script="pkg.train", arguments=("--lr", "1"), module=True)),
        ("torchrun train.py", Script(script="train.py")),
        ("torchrun -- train.py", Script(script="train.py")),
        ("/opt/venv/bin/torchrun train.py 'a b'", Script(script="train.py", arguments=("a b",))),
        ("torchrun -m pkg.train", Script(script="pkg.train", module=True)),
        ("torchrun --no_python ./run a", Script(script="./run", arguments=("a",), python=False)),
        ("torchrun --node_rank 0 --max_restarts=0 t.py --tee", Script(script="t.py", arguments=("--tee",))),
        ("python -m torch.distributed.run --nproc 2 t.py", Script(script="t.py")),
        ("python -m torch.distributed.run -m pkg", Script(script="pkg", module=True)),
        ("deepspeed --module pkg x", Script(script="pkg", arguments=("x",), module=True)),
        ("deepspeed t.py --deepspeed ds.json", Script(script="t.py", arguments=("--deepspeed", "ds.json"))),
        ("colossalai run --nproc_per_node 2 t.py", Script(script="t.py")),
    ],
)  # fmt: skip
def test_what_means_the_same_is_taken(typed: str, script: Script) -> None:
    assert taken(typed).script == script


def test_what_the_flags_say_is_kept() -> None:
    found = taken("torchrun --nnodes=2 --nproc_per_node 3 --master_addr 10.0.0.1 --master-port=29501 t.py")
    assert [(claim.what, claim.count) for claim in found.claims] == [("hosts", 2), ("slots", 3)]
    assert found.settings == (
        Setting("MASTER_ADDR", "10.0.0.1", "torchrun --master-addr"),
        Setting("MASTER_PORT", "29501", "torchrun --master-port"),
    )
    assert found.engine is None
    found = taken("deepspeed --num_gpus 2 --num_nodes -1 --no_local_rank --force_multi --launcher PDSH t.py")
    assert [(claim.what, claim.count) for claim in found.claims] == [("slots", 2)]
    assert found.engine == "deepspeed" and not found.local_rank
    assert taken("torchrun --standalone t.py").claims[0].count == 1
    assert taken("torchrun --nnodes 2:2 t.py").claims[0].count == 2


def test_a_module_is_recognised_too() -> None:
    assert taken("torch.distributed.run --nnodes 1 t.py a", module=True).script.arguments == ("a",)
    assert taken("deepspeed t.py", module=True).engine == "deepspeed"
    assert "accelerate" in refused("accelerate.commands.launch t.py", module=True).message


INVENTORY = parse("a slots=3\nb slots=2\n", "hostfile")


@pytest.mark.parametrize(
    ("typed", "message", "hint"),
    [
        (
            "torchrun --nnodes=1 t.py 'a b'",
            "`torchrun --nnodes=1`, but hostfile gives 2 hosts",
            "clusterctl launch --nodes 1 t.py 'a b'",
        ),
        (
            "torchrun --nnodes 4 t.py",
            "`torchrun --nnodes 4`, but hostfile gives 2 hosts",
            "clusterctl launch t.py",
        ),
        (
            "/x/torchrun --nproc-per-node 2 t.py",
            "`/x/torchrun --nproc-per-node 2`, but hostfile gives a 3 slots",
            "clusterctl launch --gpus-per-node 2 t.py",
        ),
        (
            "deepspeed --num_gpus=3 -- t.py",
            "`deepspeed --num_gpus=3`, but hostfile gives b 2 slots",
            "clusterctl launch t.py",
        ),
    ],
)
def test_a_contradiction_to_the_hostfile_is_refused(typed: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        taken(typed).check(INVENTORY)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_what_agrees_with_the_hostfile_passes() -> None:
    taken("torchrun --nnodes 2 t.py").check(INVENTORY)
    taken("torchrun --nproc-per-node=2 t.py").check(parse("a slots=2\nb slots=2\n", "hostfile"))


@pytest.mark.parametrize(
    ("typed", "says", "hint"),
    [
        ("python -O train.py a", "`python -O`", "clusterctl launch --no-python python -O train.py a"),
        ("python3.11 train.py a", "with the Python of its host", "clusterctl launch train.py a; `python: "),
        ("/opt/v/bin/python t.py", "/opt/v/bin/python", "`python: /opt/v/bin/python` in a profile"),
        ("python -c pass", "names no script", "clusterctl launch SCRIPT [ARGS]..."),
        ("python", "names no script", "clusterctl launch SCRIPT [ARGS]..."),
        ("deepspeed", "names no script", "clusterctl launch --engine deepspeed SCRIPT [ARGS]..."),
        ("torchrun --rdzv_backend=c10d --rdzv-endpoint h:1 t.py 'x y'",
         "--rdzv_backend=c10d: launch arranges",
         "clusterctl launch t.py 'x y'"),
        ("torchrun --nnodes 1:4 t.py", "--nnodes 1:4", "clusterctl launch t.py"),
        ("torchrun --nproc-per-node gpu t.py", "--nproc-per-node gpu", "clusterctl launch t.py"),
        ("torchrun --node-rank 1 t.py", "in the order of the hostfile", "clusterctl launch t.py"),
        ("torchrun --nnodes 2 --tee 3 -m pkg", "clusterctl logs", "clusterctl launch --nodes 2 -m pkg"),
        ("torchrun --max-restarts 3 t.py", "one host again", "clusterctl launch --max-restarts 3 t.py"),
        ("deepspeed --log_dir logs t.py", "every rank, see `clusterctl logs`", "clusterctl launch t.py"),
        ("deepspeed --deepspeed ds.json t.py", "own, and belongs behind", "clusterctl launch t.py"),
        ("torchrun --start_method spawn t.py", "nothing is forked or spawned", "clusterctl launch t.py"),
        ("torchrun --wat t.py", "`torchrun --wat`: an option that launch does not know",
         "clusterctl launch t.py"),
        ("python -m torch.distributed.launch --nproc_per_node 2 t.py", "LOCAL_RANK",
         "--gpus-per-node 2 t.py"),
        ("deepspeed -H hf --include a@b:0 t.py x", "give --hostfile to launch itself",
         "clusterctl launch --engine deepspeed --hostfile hf --include a@b:0 t.py x"),
        ("deepspeed --launcher openmpi t.py", "only pdsh", "clusterctl launch --engine deepspeed t.py"),
        ("deepspeed --no_ssh --node_rank 1 t.py", "in the order",
         "clusterctl launch --engine deepspeed t.py"),
        ("accelerate config", "trains nothing", "clusterctl launch SCRIPT [ARGS]..."),
        ("accelerate launch t.py a", "default_config.yaml", "clusterctl launch t.py a"),
        ("/opt/venv/bin/accelerate launch --num_machines 2 --mixed_precision bf16 --multi_gpu t.py a",
         "`/opt/venv/bin/accelerate launch`",
         "clusterctl launch --nodes 2 --env ACCELERATE_MIXED_PRECISION=bf16 t.py a"),
        ("accelerate launch --use_deepspeed --deepspeed_config_file ds.json --fsdp_x y -m pkg", "--fsdp-x",
         "--env ACCELERATE_USE_DEEPSPEED=true --env ACCELERATE_DEEPSPEED_CONFIG_FILE=ds.json -m pkg"),
        ("horovodrun -np 4 -H a:2,b:2 python train.py -x", "Horovod", "clusterctl launch train.py -x"),
        ("mpirun -np 4 -x A=1 python -u -m pkg y", "RANK and WORLD_SIZE", "clusterctl launch -m pkg y"),
        ("srun -N 2 torchrun --nproc_per_node 8 t.py", "Slurm", "clusterctl launch t.py"),
        ("srun hostname", "Slurm", "clusterctl launch SCRIPT [ARGS]..."),
        ("colossalai run --host a,b --nproc_per_node 2 t.py", "joined by @",
         "--include a@b --gpus-per-node 2 t.py"),
        ("colossalai check", "trains nothing", "SCRIPT"),
        ("torchrun python", "names no script", "SCRIPT"),
        ("torchrun --no-python deepspeed t.py", "starts ranks again", "clusterctl launch t.py"),
        ("bash run.sh a", "a program", "clusterctl launch --no-python bash run.sh a"),
        ("uv run python train.py a", "environment", "clusterctl launch train.py a; `python:`"),
        ("conda run -n x python -m pkg", "environment", "clusterctl launch -m pkg; "),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_comes_with_the_command_to_type(typed: str, says: str, hint: str) -> None:
    error = refused(typed)
    assert says in error.message
    assert hint in error.hint


@pytest.mark.parametrize("name", ["train.py", "./deep", "my-torchrun", "pythonic", "torchrun.py", "", "-"])
def test_an_ordinary_script_is_none_of_these(name: str) -> None:
    assert recognise(Script(script=name, arguments=("python", "x.py"))) is None
    assert recognise(Script(script=name, arguments=("x",), module=True)) is None


def test_a_program_may_be_an_interpreter() -> None:
    assert recognise(Script(script="python", arguments=("-O", "t.py"), python=False)) is None
    assert recognise(Script(script="bash", arguments=("run.sh",), python=False)) is None


WORDS = st.one_of(
    st.sampled_from(
        ["--nnodes", "--nnodes=", "-m", "--", "-", "--module", "--hostfile", "t.py", "python", "-np",
         "--tee=3",
         "--num_gpus=99999999999999999999", "--nproc-per-node=-3", "-r3", "--no_python", "launch",
         "run", "--="]
    ),
    st.text(string.printable, max_size=8),
)  # fmt: skip


@given(st.sampled_from(["python", "python3.9", *launcher_flags.LAUNCHERS]), st.lists(WORDS, max_size=6))
def test_no_words_break_it(name: str, words: list[str]) -> None:
    """Whatever stands there is taken with every word after the script, or refused with a hint to type."""
    try:
        found = recognise(Script(script=name, arguments=tuple(words)))
    except UsageError as error:
        assert error.message and error.hint.startswith(("clusterctl launch", "run it"))
        return
    assert found is not None and found.script.script
    kept = (found.script.script, *found.script.arguments)
    assert tuple(words[-len(kept) :]) == kept

"""What the options of other launchers mean here: the same, something to type instead, or nothing. Pure.

Checked against torch 2.13 (`torch.distributed.run`) and DeepSpeed 0.19.8 (`deepspeed.launcher.runner`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from clusterctl.plan.launcher_words import Flag, Syntax
from clusterctl.plan.model import Engine


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One flag in our terms. With ``why`` it cannot be taken; ``instead`` are options of launch."""

    claims: tuple[Literal["hosts", "slots"], int] | None = None
    settings: tuple[tuple[str, str], ...] = ()
    instead: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    why: str = ""


Meaning = Callable[[Flag], Told]


class Launcher(msgspec.Struct, frozen=True, kw_only=True):
    """``reads`` None: its words are not understood, and ``why`` says why it cannot be meant. A launcher that
    has both is never taken, but its options are translated."""

    reads: Syntax | None = None
    meanings: Mapping[str, Meaning] = {}
    otherwise: Callable[[Flag], Meaning] = lambda flag: _refused(
        refusal(flag.name) or "launch has no such option"
    )
    engine: Engine | None = None
    subcommand: str = ""
    why: str = ""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _refused(why: str, *instead: str) -> Meaning:
    return lambda flag: Told(why=why, instead=tuple(each.format(flag.value or "") for each in instead))


def _moved(option: str) -> Meaning:
    """An option that launch has, too: its place is before the script."""
    return lambda flag: Told(why=f"give {option} to launch itself", instead=(option, flag.value or ""))


def _switch(name: str) -> Meaning:
    return lambda _: Told(switches=(name,))


def _nothing(_: Flag) -> Told:
    return Told()


def _only(value: str, why: str) -> Meaning:
    return lambda flag: Told() if flag.value == value else Told(why=why)


def _count(what: Literal["hosts", "slots"], option: str, *, unset: bool = False) -> Meaning:
    """A number. ``unset``: one below 1 is DeepSpeed's word for all."""

    def meaning(flag: Flag) -> Told:
        text = flag.value or ""
        low, colon, high = text.partition(":")
        if what == "hosts" and colon and low == high:
            text = low
        digits = text.removeprefix("-")
        if not digits.isdecimal() or len(digits) > 6:
            return Told(why="a number is needed here: hosts and slots are those of the hostfile")
        number = int(text)
        if number < 1:
            return Told() if unset else Told(why=f"{number} selects nothing")
        return Told(claims=(what, number), instead=(option, str(number)))

    return meaning


def _master(option: str, name: str) -> Meaning:
    return lambda flag: Told(settings=((name, flag.value or ""),), instead=(option, flag.value or ""))


def _variable(name: str, value: str = "{}") -> Meaning:
    return lambda flag: Told(instead=("--env", f"{name}={value.format(flag.value or '')}"))


_MEET = "launch arranges itself how ranks meet"
_LOGS = "launch keeps the output of every rank, see `clusterctl logs`"
_RESTARTS = "torchrun would start one host again and not the others, launch starts all"
_PLACES = "launch starts every host itself, in the order of the hostfile"
_PIN = "DeepSpeed's own pdsh launcher drops it, too; --no-python numactl ... pins"

_TORCHRUN = Launcher(
    reads=Syntax(
        valued=_names(
            "--nnodes --nproc-per-node --rdzv-backend --rdzv-endpoint --rdzv-id --rdzv-conf "
            "--max-restarts --monitor-interval --start-method --event-log-handler --role --log-dir "
            "--redirects --tee --local-ranks-filter --duplicate-stdout-filters "
            "--duplicate-stderr-filters --node-rank --master-addr --master-port --local-addr "
            "--logs-specs --numa-binding --signals-to-handle --shutdown-timeout"
        ),
        switches=_names("--standalone --module --no-python --run-path --virtual-local-rank"),
        short={"-m": "--module", "-r": "--redirects", "-t": "--tee"},
    ),
    meanings={
        "--nnodes": _count("hosts", "--nodes"),
        "--nproc-per-node": _count("slots", "--gpus-per-node"),
        "--node-rank": _only("0", _PLACES),
        "--master-addr": _master("--master-addr", "MASTER_ADDR"),
        "--master-port": _master("--master-port", "MASTER_PORT"),
        "--standalone": lambda flag: Told(claims=("hosts", 1), instead=("--nodes", "1")),
        "--module": _switch("module"),
        "--no-python": _switch("no-python"),
        "--rdzv-backend": _only("static", _MEET),
        "--rdzv-endpoint": _refused(_MEET),
        "--rdzv-id": _refused(_MEET),
        "--rdzv-conf": _refused(_MEET),
        "--local-addr": _refused(_MEET),
        "--max-restarts": lambda flag: (
            Told() if flag.value == "0" else Told(why=_RESTARTS, instead=("--max-restarts", flag.value or ""))
        ),
        "--log-dir": _refused(_LOGS),
        "--redirects": _refused(_LOGS),
        "--tee": _refused(_LOGS),
        "--logs-specs": _refused(_LOGS),
        "--local-ranks-filter": _refused(_LOGS),
    },
)

_LEGACY = msgspec.structs.replace(
    _TORCHRUN,
    reads=Syntax(
        valued=_TORCHRUN.reads.valued if _TORCHRUN.reads else frozenset(),
        switches=_names("--standalone --module --no-python --run-path --use-env"),
        short={"-m": "--module", "-r": "--redirects", "-t": "--tee"},
    ),
    meanings={**_TORCHRUN.meanings, "--use-env": _nothing},
    why="it gives scripts --local-rank=N, launch gives them LOCAL_RANK",
)

_DEEPSPEED = Launcher(
    engine="deepspeed",
    reads=Syntax(
        valued=_names(
            "--hostfile --include --exclude --num-nodes --num-gpus --num-accelerators --master-port "
            "--master-addr --node-rank --launcher --launcher-args --enable-each-rank-log --autotuning "
            "--bind-core-list --ssh-port --venv-script --log-level --min-elastic-nodes "
            "--max-elastic-nodes"
        ),
        switches=_names(
            "--module --no-python --no-local-rank --no-ssh --no-ssh-check --force-multi --save-pid "
            "--bind-cores-to-rank --quiet --elastic-training"
        ),
        short={"-H": "--hostfile", "-i": "--include", "-e": "--exclude", "-q": "--quiet"},
    ),
    meanings={
        "--hostfile": _moved("--hostfile"),
        "--include": _moved("--include"),
        "--exclude": _moved("--exclude"),
        "--ssh-port": _moved("--ssh-port"),
        "--venv-script": _moved("--venv-script"),
        "--num-nodes": _count("hosts", "--nodes", unset=True),
        "--num-gpus": _count("slots", "--gpus-per-node", unset=True),
        "--num-accelerators": _count("slots", "--gpus-per-node", unset=True),
        "--master-addr": _master("--master-addr", "MASTER_ADDR"),
        "--master-port": _master("--master-port", "MASTER_PORT"),
        "--module": _switch("module"),
        "--no-python": _switch("no-python"),
        "--no-local-rank": _switch("no-local-rank"),
        "--force-multi": _nothing,
    },
)

DEEPSPEED_REFUSED = {
    "--node-rank": _PLACES,
    "--no-ssh": f"{_PLACES}; where there is no pdsh, --engine deepspeed uses it by itself",
    "--no-ssh-check": "launch always looks at all hosts before it starts; --force starts whatever it finds",
    "--launcher-args": "options of ssh belong in ~/.ssh/config, or in PDSH_SSH_ARGS_APPEND",
    "--enable-each-rank-log": _LOGS,
    "--save-pid": "a run has an id, for `clusterctl status` and `clusterctl stop`",
    "--autotuning": "the autotuner starts many runs by itself: run `deepspeed --autotuning` by hand",
    "--bind-cores-to-rank": _PIN,
    "--bind-core-list": _PIN,
    "--log-level": "what DeepSpeed's launcher says is in the run's log files, not on the screen",
    "--quiet": "what DeepSpeed's launcher says is in the run's log files, not on the screen",
    "--elastic-training": "DeepSpeed itself removed it with 0.19.8; --max-restarts starts all again",
    "--min-elastic-nodes": "DeepSpeed itself removed it with 0.19.8; --max-restarts starts all again",
    "--max-elastic-nodes": "DeepSpeed itself removed it with 0.19.8; --max-restarts starts all again",
}
"""Options of `deepspeed` that launch does not take, and why."""

REFUSED = {
    **DEEPSPEED_REFUSED,
    **dict.fromkeys(("--rdzv-backend", "--rdzv-endpoint", "--rdzv-id", "--rdzv-conf", "--local-addr"), _MEET),
    **dict.fromkeys(("--tee", "--redirects", "--log-dir", "--local-ranks-filter"), _LOGS),
    "--deepspeed": "it is the script's own, and belongs behind its name",
    "--deepspeed-config": "it is the script's own, and belongs behind its name",
    "--start-method": "ranks are programs of their own, started anew: nothing is forked or spawned",
    "--verbose": "what launch does is on the screen, what torchrun or DeepSpeed say in the run's log files",
    "--standalone": "--nodes 1 takes the first host alone",
    "--machine-rank": _PLACES,
    "--num-processes": "ranks are the slots of the hostfile; --gpus-per-node N takes N of each host",
    "--num-machines": "it is called --nodes here",
    "--main-process-ip": "it is called --master-addr here",
    "--main-process-port": "it is called --master-port here",
    "--mixed-precision": "accelerate reads ACCELERATE_MIXED_PRECISION: send it with --env",
    "--use-deepspeed": "accelerate reads ACCELERATE_USE_DEEPSPEED: send it with --env",
    "--deepspeed-config-file": "accelerate reads ACCELERATE_DEEPSPEED_CONFIG_FILE: send it with --env",
    "--config-file": "what accelerate would make of it are variables: send them with --env",
    "--multi-gpu": "launch starts one rank a slot anyway",
}
"""Options of any launcher that people type before the script, and why launch has none such."""


def refusal(typed: str) -> str:
    """Why launch has no option of that name, whoever has it; "" where nobody knows."""
    return REFUSED.get(typed.partition("=")[0].replace("_", "-"), "")


def of_deepspeed_launcher(value: str) -> str:
    """Why DeepSpeed's ``--launcher`` VALUE cannot be had; "" for pdsh."""
    if value.lower() == "pdsh":
        return ""
    return "of DeepSpeed's launchers only pdsh is used; without it launch reaches the hosts itself"


_DEEPSPEED = msgspec.structs.replace(
    _DEEPSPEED,
    meanings={
        **{name: _refused(why) for name, why in DEEPSPEED_REFUSED.items()},
        **_DEEPSPEED.meanings,
        "--launcher": lambda flag: Told(why=of_deepspeed_launcher(flag.value or "")),
    },
)

_ACCELERATE = Launcher(
    why="its options and its default_config.yaml become variables, which launch sends only by name",
    reads=Syntax(
        valued=_names(
            "--num-processes --num-machines --machine-rank --main-process-ip --main-process-port "
            "--mixed-precision --config-file --deepspeed-config-file --deepspeed-hostfile "
            "--zero-stage --gradient-accumulation-steps --num-cpu-threads-per-process --gpu-ids "
            "--dynamo-backend --rdzv-backend --deepspeed-multinode-launcher --max-restarts"
        ),
        switches=_names(
            "--multi-gpu --use-deepspeed --module --no-python --same-network --cpu --use-cpu "
            "--use-fsdp --debug --quiet --enable-cpu-affinity --use-megatron-lm --tpu"
        ),
        short={"-m": "--module", "-q": "--quiet"},
        open=True,
    ),
    meanings={
        "--num-processes": _nothing,
        "--machine-rank": _nothing,
        "--multi-gpu": _nothing,
        "--same-network": _nothing,
        "--quiet": _nothing,
        "--rdzv-backend": _nothing,
        "--num-machines": _count("hosts", "--nodes"),
        "--max-restarts": _refused(_RESTARTS, "--max-restarts", "{}"),
        "--main-process-ip": _master("--master-addr", "MASTER_ADDR"),
        "--main-process-port": _master("--master-port", "MASTER_PORT"),
        "--deepspeed-hostfile": _moved("--hostfile"),
        "--mixed-precision": _variable("ACCELERATE_MIXED_PRECISION"),
        "--dynamo-backend": _variable("ACCELERATE_DYNAMO_BACKEND"),
        "--use-deepspeed": _variable("ACCELERATE_USE_DEEPSPEED", "true"),
        "--deepspeed-config-file": _variable("ACCELERATE_DEEPSPEED_CONFIG_FILE"),
        "--zero-stage": _variable("ACCELERATE_DEEPSPEED_ZERO_STAGE"),
        "--gradient-accumulation-steps": _variable("ACCELERATE_GRADIENT_ACCUMULATION_STEPS"),
        "--num-cpu-threads-per-process": _variable("OMP_NUM_THREADS"),
        "--cpu": _variable("ACCELERATE_USE_CPU", "true"),
        "--use-cpu": _variable("ACCELERATE_USE_CPU", "true"),
        "--enable-cpu-affinity": _variable("ACCELERATE_CPU_AFFINITY", "1"),
        "--module": _switch("module"),
        "--no-python": _switch("no-python"),
    },
    otherwise=lambda flag: _refused(f"what {flag.name} sets is yours to send with --env"),
)

_COLOSSALAI = Launcher(
    subcommand="run",
    reads=Syntax(
        valued=_names(
            "--host --hostfile --include --exclude --num-nodes --nproc-per-node --master-addr "
            "--master-port --ssh-port --extra-launch-args"
        ),
        switches=_names("--module"),
        short={"-H": "--host", "-m": "--module"},
    ),
    meanings={
        "--num-nodes": _count("hosts", "--nodes", unset=True),
        "--nproc-per-node": _count("slots", "--gpus-per-node"),
        "--master-addr": _master("--master-addr", "MASTER_ADDR"),
        "--master-port": _master("--master-port", "MASTER_PORT"),
        "--ssh-port": _moved("--ssh-port"),
        "--module": _switch("module"),
        "--host": lambda flag: Told(
            why="name hosts of the hostfile to launch, joined by @",
            instead=("--include", (flag.value or "").replace(",", "@")),
        ),
        "--hostfile": _refused("hosts and slots come from a hostfile in DeepSpeed's grammar"),
    },
)

_MPI = "it sets variables of its own, where torch.distributed reads RANK and WORLD_SIZE, which launch sets"
_AGAIN = "launch reaches the hosts itself"

LAUNCHERS: dict[str, Launcher] = {
    "torchrun": _TORCHRUN,
    "torch.distributed.launch": _LEGACY,
    "deepspeed": _DEEPSPEED,
    "accelerate launch": _ACCELERATE,
    "accelerate": msgspec.structs.replace(_ACCELERATE, subcommand="launch"),
    "accelerate-launch": _ACCELERATE,
    "colossalai": _COLOSSALAI,
    "horovodrun": Launcher(why="scripts of Horovod need its own variables, which only it sets"),
    **dict.fromkeys(("mpirun", "mpiexec", "mpiexec.hydra", "orterun", "prterun"), Launcher(why=_MPI)),
    **dict.fromkeys(("srun", "sbatch"), Launcher(why=f"it asks Slurm for hosts, {_AGAIN}")),
    **dict.fromkeys(("pdsh", "ssh", "clush"), Launcher(why=_AGAIN)),
    **dict.fromkeys(
        ("torchx", "composer", "ft_launcher", "clusterctl"),
        Launcher(why="it starts ranks, and so does launch"),
    ),
}
"""By the name of the program. Those without ``reads`` are only recognised."""

PROGRAMS = ("bash", "sh", "zsh", "env", "numactl", "taskset", "nsys", "ncu", "py-spy", "strace")
"""Programs that run one process; launch can start them once a rank."""

ENVIRONMENTS = ("uv", "conda", "mamba", "micromamba", "poetry", "pipenv", "pixi", "hatch", "pdm")

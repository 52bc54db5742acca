"""All verbs of `clusterctl`, one file each. A file is loaded when its verb is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from clusterctl import __version__
from clusterctl.cli import help as help_
from clusterctl.cli import help_sections
from clusterctl.cli.verbs import Verbs

if TYPE_CHECKING:
    from clusterctl.errors import ClusterctlError

# typer carries a click of its own since 0.26 and used the installed one before: ask it for the class.
WrongUsage: type[typer.BadParameter] = typer.BadParameter.__mro__[2]  # ClickException

app = typer.Typer(
    name="clusterctl",
    help="Check a handful of GPU machines over SSH, train across all of them, and learn what went wrong.",
    epilog="Exit codes: 0 done; 1 no host could give what was asked for; 64 wrong usage, or what was named "
    "is not there; 125 a fault of clusterctl or of this machine; 130 interrupted. doctor, launch and exec "
    "have more, see their --help.",
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PASS_ON = {"allow_interspersed_args": False}


def _verb(name: str, place: str, **settings: Any) -> None:
    """``place``: its function, or a Typer of its own, as ``module.name`` in this room."""
    Verbs.places[name] = place
    Verbs.settings[name] = settings


def _no_option_of_launch(name: str) -> ClusterctlError | None:
    from clusterctl.cli import launch

    return launch.unknown_option(name)


def _dashes(name: str) -> str:
    """As DeepSpeed and torchrun spell options: --master_port."""
    return name.replace("_", "-")


_verb(
    "doctor",
    "doctor.command",
    short_help="Check every host over SSH: is this a cluster that can train?",
    cls=help_.command(
        "clusterctl doctor                      ./hostfile, or the running sandbox",
        "clusterctl doctor hostfiles/lab -v     also what passed and what was skipped",
        "clusterctl doctor -i gpu1@gpu2 --json  two hosts, for a program",
        "clusterctl doctor --hostfile-out good  the ready ones, for `launch -H good`",
        "clusterctl doctor --capture bug        keep it; --replay bug judges it again",
    ),
)
_verb(
    "checks",
    "checks.command",
    short_help="What doctor looks at.",
    cls=help_.command(
        "clusterctl checks           all, with what each looks at",
        "clusterctl checks gpu       one family",
        "clusterctl checks net.mtu   one check, with what it leads to and its fix",
    ),
)
_verb(
    "launch",
    "launch.command",
    short_help="Train on all hosts: SCRIPT, or the shipped workload.",
    context_settings={**_PASS_ON, "token_normalize_func": _dashes},
    cls=help_.command(
        "clusterctl launch train.py --lr 3e-4        all slots of ./hostfile",
        "clusterctl launch -n 2 --dry-run train.py   what would run on two hosts",
        "clusterctl launch --engine deepspeed --env NCCL_DEBUG=INFO train.py",
        "clusterctl launch --time-limit 2h -m project.train",
        "clusterctl launch --detach train.py         goes on without this terminal",
        "clusterctl launch -- --steps 5              the shipped workload",
        groups=help_sections.LAUNCH,
        unknown_option=_no_option_of_launch,
    ),
)
_verb(
    "lint",
    "lint.command",
    short_help="Is this DeepSpeed config right for so many ranks?",
    cls=help_.command(
        "clusterctl lint ds.json --nodes 2 --gpus-per-node 8",
        "clusterctl lint ds.json -H hosts -- --learning_rate 2e-5   as Trainer would read it",
        "clusterctl lint ds.json --json                             for a program",
    ),
)
_verb(
    "attach",
    "attach.command",
    short_help="Show a run as its launch does; Ctrl-C leaves it alone.",
    cls=help_.command(
        "clusterctl attach                     the newest that runs, to its end",
        "clusterctl attach 20260101 --tail 20  a run by the beginning of its id",
    ),
)
_verb(
    "logs",
    "logs.command",
    short_help="Show what the ranks of a run printed.",
    cls=help_.command(
        "clusterctl logs -f                    the newest run, until it ends",
        "clusterctl logs 2026 --tail 20        a run by the beginning of its id",
        "clusterctl logs --rank 3 > rank3.txt  its bytes as they are",
    ),
)
_verb(
    "runs",
    "runs.list_command",
    short_help="List runs, newest last.",
    cls=help_.command(
        "clusterctl runs                             the newest 20",
        "clusterctl runs --status failed --since 2d  what failed lately",
        "clusterctl runs --json                      all, for a program",
    ),
)
_verb(
    "status",
    "runs.status_command",
    short_help="How a run stands, host by host.",
    cls=help_.command("clusterctl status", "clusterctl status 20260101-1200 --json"),
)
_verb(
    "top",
    "top.command",
    short_help="Show what hosts and GPUs do now, for whom, and how far runs are.",
    cls=help_.command(
        "clusterctl top                   until Ctrl-C; --once for one look",
        "clusterctl top --filter free     only GPUs that nobody uses",
        "clusterctl top 20260101          the hosts of one run",
        "clusterctl top --record lab.ndjson, later: top --replay lab.ndjson",
    ),
)
_verb(
    "report",
    "report.command",
    short_help="Write a run as one page: cause, curves, hosts, events.",
    cls=help_.command(
        "clusterctl report                  the newest run, into its directory",
        "clusterctl report 20260101 -o x.html  a run by the beginning of its id",
        "clusterctl report A B C            several runs laid over one another",
    ),
)
_verb(
    "serve",
    "serve.command",
    short_help="Show the runs of this machine in a browser, live.",
    cls=help_.command(
        "clusterctl serve              prints an address to open, and a line for ssh -L",
        "clusterctl serve --port 9000",
    ),
)
_verb(
    "track",
    "track.command",
    short_help="Send a run's metrics to W&B or trackio.",
    cls=help_.command(
        "clusterctl track 2026 --to wandb             what it has told, and goes on telling",
        "WANDB_MODE=offline clusterctl track          into the run's directory; wandb sync sends it",
        "clusterctl launch --track trackio train.py   from the beginning",
    ),
)
_verb(
    "why",
    "why.command",
    short_help="Explain how a run failed, in words.",
    cls=help_.command(
        "clusterctl why                the newest run",
        "clusterctl why 20260101-1200  a run by the beginning of its id",
        "clusterctl why --json         for a program",
    ),
)
_verb(
    "stop",
    "stop.command",
    short_help="Stop a run on all hosts.",
    cls=help_.command(
        "clusterctl stop                  the running one; scripts have 30 s to save",
        "clusterctl stop 20260101 --now   at once",
    ),
)
_verb(
    "fit",
    "fit.command",
    short_help="Predict memory and traffic of a model; recommend a strategy.",
    cls=help_.command(
        "clusterctl fit ./my-model --seq 4096           on the hosts of ./hostfile",
        "clusterctl fit 7B --gpu-memory 24GB --gpus 4 --hosts 2 --bandwidth 1.1GB/s",
        "clusterctl fit 7B --qlora --checkpointing --write ds_config.json",
        groups=help_sections.FIT,
    ),
)
_verb(
    "compare",
    "compare.command",
    short_help="Train one job under several strategies; recommend one.",
    context_settings={**_PASS_ON, "token_normalize_func": _dashes},
    cls=help_.command(
        "clusterctl compare                          ddp and ZeRO 1 to 3, the shipped script",
        "clusterctl compare --strategies zero2,zero3 --html page.html -- --d_model 512",
        "clusterctl compare train.py --zero {strategy} --max_steps {steps}",
        "clusterctl compare --strategies z1.json,z2.json sft.py --deepspeed {config}",
        groups=help_sections.COMPARE,
    ),
)
_verb(
    "pull",
    "pull.command",
    short_help="Bring outputs of a run back from the hosts.",
    cls=help_.command(
        "clusterctl pull                             what the newest run made",
        "clusterctl pull 20260101-1200 ckpt --to .   one folder",
    ),
)
_verb(
    "clean",
    "clean.command",
    short_help="Remove old runs, here and on their hosts.",
    cls=help_.command(
        "clusterctl clean --older-than 7d --dry-run   what would go",
        "clusterctl clean 20260101-1200 --outputs     one run, with what it wrote",
    ),
)
_verb(
    "sweep",
    "sweep.command",
    short_help="End what dead runs left on the hosts.",
    cls=help_.command(
        "clusterctl sweep --dry-run        what is left, and where",
        "clusterctl sweep -H hosts --yes   end it, without asking",
        "clusterctl sweep --shm            shared memory that nobody has open, too",
    ),
)
_verb(
    "env",
    "env.command",
    short_help="Print the variables of one host, for a start by hand.",
    cls=help_.command(
        "clusterctl env gpu1             to read",
        'eval "$(clusterctl env gpu1)"   to use, in a shell on gpu1',
    ),
)
_verb(
    "exec",
    "exec.command",
    short_help="Run one command on all hosts, fold equal answers.",
    context_settings=_PASS_ON,
    cls=help_.command(
        "clusterctl exec -- nvidia-smi -L",
        "clusterctl exec -i gpu[1-4] --shell 'df -h / | tail -1'",
        "clusterctl exec --no-fold --timeout 10m -- pip install -r requirements.txt",
    ),
)
_verb(
    "clusters",
    "clusters.command",
    short_help="List the names that --cluster knows.",
    cls=help_.command("clusterctl clusters", "clusterctl launch -c lab train.py   uses one"),
)
_verb(
    "ssh",
    "ssh.command",
    short_help="Go to a host, or to where a rank is.",
    context_settings=_PASS_ON,
    cls=help_.command(
        "clusterctl ssh gpu1                   a shell",
        "clusterctl ssh 20260101:3             where rank 3 is, with its variables",
        "clusterctl ssh :3 'env | grep NCCL'   of the newest run",
    ),
)
_verb(
    "py-spy",
    "ssh.spy_command",
    short_help="Print what the Python threads of a rank do now.",
    cls=help_.command("clusterctl py-spy :0", "clusterctl py-spy 20260101-1200:3"),
)
_verb(
    "init",
    "init.command",
    short_help="Write a hostfile: asks each host for its GPUs.",
    cls=help_.command(
        "clusterctl init gpu1 alice@gpu2 'gpu[3-8]'", "clusterctl init --from-ssh-config -o lab"
    ),
)
_verb(
    "completion",
    "completion.command",
    short_help="Let TAB complete verbs, options, hosts, runs and clusters.",
    cls=help_.command(
        'eval "$(clusterctl completion bash)"   in this shell; zsh, fish',
        "clusterctl completion --install        in every new one",
    ),
)
_verb("sandbox", "sandbox.app", short_help="Virtual hosts with real sshd on this machine.")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"clusterctl {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    return

"""What was asked for, as one value: the command line and Python fill in the same."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from clusterctl.errors import UsageError, in_words
from clusterctl.plan.model import Engine, Notify, OnDisconnect, Setting, Track

Env = Mapping[str, str] | Iterable[str]
"""Variables for all hosts: a mapping, or ``K=V`` and ``K`` (to copy the caller's) as ``--env`` takes them."""


class LaunchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and how. Nothing here is checked against any host or file yet.

    ``script`` empty means the shipped workload, ``engine`` None torchrun. ``env`` holds ``K=V``, or
    ``K`` to copy the caller's; it is stronger than the ``KEY=VALUE`` lines of ``env_file``. ``workdir``
    is the directory that is copied to the hosts (empty: the git repository around the current one, or
    that itself), at most ``sync_limit`` of it (such as ``500MB``); without ``sync`` it is on every host
    already. ``module``: the script is a module. Without ``python`` it is a program of its own.
    ``local_rank``: DeepSpeed gets ``--local_rank=N``. ``time_limit`` is seconds. ``force`` starts
    although the examination found failures, or the script's DeepSpeed config would fail.
    ``log_limit``: how much of each rank's log is kept (such as
    ``200MB``; ``0``: all; empty: 1 GB). ``stdin``: rank 0 reads this process's standard input.
    ``on_disconnect``: what the hosts do when their controller is gone, ``stop`` after a minute or
    ``continue`` for a day; None means ``continue`` where the run is detached and its hosts lose nothing
    at a logout, else ``stop``. ``on_end``: a command line for a shell of this machine when the run is
    over. ``notify``: how people are told of its end. ``track``: where metrics are sent while it lives,
    ``wandb`` or ``trackio``. ``settings`` are variables with options of their own, such as MASTER_ADDR.
    ``pdsh``: DeepSpeed's launcher over pdsh, or nothing. ``home_caches``: what ranks compile goes to the home
    directory, also where hosts share it. ``max_restarts``: so often the whole run begins again after a
    failure, as attempts of one run. ``checkpoint_dir``: where its checkpoints lie, seen from where it
    works (empty: the ``--save_dir`` of the shipped workload); before every attempt but the first the
    hosts find the newest that is whole, with ``resume`` before the first as well. ``spares``: hosts that
    stand by for one that is lost, the last ``N`` or those named, with commas. ``hang_timeout``: after so
    many seconds without a sign of work the ranks are looked at; 0: never; None: 10 minutes, or longer
    where the run is used to that. ``on_hang``: whether a run that hangs is stopped.
    """

    script: str = ""
    arguments: tuple[str, ...] = ()
    engine: Engine | None = None
    env: tuple[str, ...] = ()
    env_file: str = ""
    workdir: str = ""
    sync: bool = True
    sync_limit: str = ""
    module: bool = False
    python: bool = True
    local_rank: bool = True
    time_limit: float | None = None
    log_limit: str = ""
    force: bool = False
    stdin: bool = False
    on_disconnect: OnDisconnect | None = None
    on_end: str = ""
    track: Track = ""
    notify: tuple[Notify, ...] = ()
    settings: tuple[Setting, ...] = ()
    pdsh: bool = False
    max_restarts: int = 0
    home_caches: bool = False
    checkpoint_dir: str = ""
    resume: bool = False
    hang_timeout: float | None = None
    on_hang: Literal["stop", "report"] = "stop"
    spares: str = ""


def checked(options: LaunchOptions) -> LaunchOptions:
    """The same, of the types that are declared: Python itself lets any value pass. Raises UsageError."""
    try:
        found = msgspec.convert(msgspec.structs.asdict(options), LaunchOptions)
    except (msgspec.ValidationError, TypeError) as error:
        raise UsageError(f"LaunchOptions: {in_words(error)}", hint="help(clusterctl.LaunchOptions)") from None
    if found.time_limit is not None and not found.time_limit > 0:
        raise UsageError(f"time_limit={found.time_limit:g} is over at once", hint="seconds, above 0")
    if found.max_restarts < 0:
        raise UsageError(f"max_restarts={found.max_restarts} is less than none", hint="0: one attempt only")
    if found.spares and not found.max_restarts:
        raise UsageError("spares stand by for a restart, and there is to be none", hint="--max-restarts 3")
    if found.spares and found.on_disconnect == "continue":
        raise UsageError(
            "no spare can take over from a host that may go on alone",
            hint="leave out --spares, or --on-disconnect continue",
        )
    if found.max_restarts and found.stdin:
        raise UsageError(
            "stdin cannot be read again by another attempt", hint="leave out --stdin, or --max-restarts"
        )
    if found.hang_timeout is not None and not found.hang_timeout >= 0:
        raise UsageError(f"hang_timeout={found.hang_timeout:g} is below zero", hint="seconds; 0: off")
    return found


def env_options(env: Env) -> tuple[str, ...]:
    """As ``--env`` takes them."""
    if isinstance(env, Mapping):
        return tuple(f"{name}={value}" for name, value in env.items())
    return words_of(env, "env")


def words_of(values: Iterable[object], what: str) -> tuple[str, ...]:
    """A text is a sequence, too, of letters: nobody means those."""
    if isinstance(values, (str, bytes)):
        raise UsageError(f"{what} is one text, not a list of words", hint=f"{what}=[{values!r}]")
    return tuple(map(str, values))


def filled(
    options: LaunchOptions, script: str | os.PathLike[str], args: Iterable[object], env: Env
) -> LaunchOptions:
    """``options``, and what a call of Python gives besides them. Raises UsageError."""
    return msgspec.structs.replace(
        checked(options),
        script=os.fspath(script) or options.script,
        arguments=(*options.arguments, *words_of(args, "args")),
        env=(*options.env, *env_options(env)),
    )

"""The same job under several strategies, one after the other: what each run told becomes a trial."""

from __future__ import annotations

from pathlib import Path

import msgspec

from clusterctl.advise.compare.model import Comparison, Place, Trial
from clusterctl.advise.fit.job import STRATEGIES
from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.facts.model import Facts
from clusterctl.run.display import Display
from clusterctl.session.cluster import Cluster
from clusterctl.session.options import LaunchOptions
from clusterctl.session.progress import Progress, Silent
from clusterctl.session.refused import NotReadyError, RefusedError
from clusterctl.session.run import Run
from clusterctl.session.trial import told_by
from clusterctl.store import comparisons
from clusterctl.store.home import new_run_id
from clusterctl.store.outcome import Outcome

COUNTED = 2
"""Steps whose tensors are counted: `CLUSTERCTL_MEASURE` of train/memory.py. They are slow."""
RECORD = "comparison.json"
_NAME, _CONFIG, _STEPS = "{strategy}", "{config}", "{steps}"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """``strategies`` are names, or config files where the arguments hold ``{config}``. ``options`` are those
    of a launch; its arguments get the strategy."""

    strategies: tuple[str, ...]
    options: LaunchOptions
    steps: int = 30
    warmup: int = 5
    repeats: int = 2


class Listener:
    """Hears how it goes. All methods may be overridden; none does anything here."""

    def begins(self, strategy: str, repetition: int, number: int, of: int) -> Display:
        """Trial ``number`` of so many; what is to be told of its run meanwhile."""
        return Display()

    def ended(self, trial: Trial) -> None:
        """It is over, and kept."""


class Comparing:
    """One comparison; ``record`` holds what there is at any time, also after KeyboardInterrupt."""

    def __init__(
        self, cluster: Cluster, wanted: Wanted, *, version: str, progress: Progress = Silent
    ) -> None:
        """Asks the hosts who they are. ``version`` is clusterctl's, for the record. Raises UsageError
        for what cannot be meant, before that."""
        check(wanted)
        self._cluster, self._wanted, self._progress = cluster, wanted, progress
        seen = cluster.examine(quick=True, torch=False, progress=progress)
        self.record = Comparison(
            id=new_run_id(),
            version=version,
            script=wanted.options.script or "train/pretrain.py",
            arguments=wanted.options.arguments,
            strategies=tuple(map(shown, wanted.strategies)),
            steps=wanted.steps,
            warmup=wanted.warmup,
            repeats=wanted.repeats,
            places=tuple(
                _place(
                    host.name,
                    len(host.slots),
                    seen.answers.facts.get(host.name),
                    virtual=cluster.hosts.virtual,
                )
                for host in cluster.hosts.inventory.hosts
            ),
        )

    def run(self, listener: Listener) -> Comparison:
        """All trials: each strategy once, then all again, so that what changes meanwhile meets all alike. One
        that failed once started is not tried again.

        Raises NotReadyError and UsageError from before the first trial only, and KeyboardInterrupt once the
        run that went on has been stopped.
        """
        failed: set[str] = set()
        total = self._wanted.repeats * len(self._wanted.strategies)
        number = 0
        for repetition in range(1, self._wanted.repeats + 1):
            for strategy in self._wanted.strategies:
                number += 1
                if strategy in failed:
                    continue
                display = listener.begins(shown(strategy), repetition, number, total)
                trial = self._trial(strategy, repetition, display)
                if trial.ending == "failed" and trial.run:  # what never started may start later
                    failed.add(strategy)
                self._keep(trial)
                listener.ended(trial)
                if trial.ending == "stopped":
                    raise KeyboardInterrupt
        self.record = msgspec.structs.replace(self.record, finished=True)
        self._write()
        return self.record

    def _keep(self, trial: Trial) -> None:
        self.record = msgspec.structs.replace(self.record, trials=(*self.record.trials, trial))
        self._write()

    def _write(self) -> None:
        comparisons.keep(self.record.id, RECORD, encode(self.record))

    def _trial(self, strategy: str, repetition: int, display: Display) -> Trial:
        options = arguments_for(self._wanted, strategy)
        name = shown(strategy)
        try:
            run = self._cluster.open_run(options, progress=self._progress)
        except ClusterctlError as error:
            # What holds for all of them is no trial of this one.
            if not self.record.trials and (
                not isinstance(error, RefusedError) or isinstance(error, NotReadyError)
            ):
                raise
            return Trial(
                strategy=name,
                repetition=repetition,
                ending="failed",
                cause=error.message.removeprefix("not started: "),
                hint=error.hint,
            )
        run.start(display)
        outcome = _waited_for(run)
        trial = told_by(run, outcome, self._wanted.warmup)
        return msgspec.structs.replace(trial, strategy=name, repetition=repetition)


def check(wanted: Wanted) -> None:
    """Raises UsageError for what cannot be meant."""
    names = [shown(each) for each in wanted.strategies]
    twice = [name for name in names if names.count(name) > 1]
    if not names or twice:
        raise UsageError(
            f"--strategies names {twice[0]} twice" if twice else "--strategies names none",
            hint="--strategies ddp,zero1,zero2,zero3",
        )
    if wanted.steps <= wanted.warmup:
        raise UsageError(
            f"{wanted.steps} steps, of which {wanted.warmup} are warm-up: none is left to be timed",
            hint=f"--steps {wanted.warmup + 25}",
        )
    arguments = wanted.options.arguments
    words = {word.partition("=")[0] for word in arguments}
    if not wanted.options.script:
        given = sorted(words & {"--strategy", "--zero_stage", "--ds_config", "--deepspeed", "--steps"})
        if given:
            raise UsageError(
                f"{given[0]} is what compare itself gives to train/pretrain.py",
                hint="--strategies and --steps come before the --",
            )
        known = [each.name for each in STRATEGIES]
        unknown = [name for name in wanted.strategies if name not in known]
        if unknown:
            raise UsageError(f"there is no strategy {unknown[0]}", hint=f"one of {', '.join(known)}")
    if any(_CONFIG in word for word in arguments):
        missing = [each for each in wanted.strategies if not Path(each).is_file()]
        if missing:
            raise UsageError(
                f"with {_CONFIG} the strategies are config files, and there is no {missing[0]}",
                hint="--strategies ds_zero1.json,ds_zero2.json",
            )


def shown(strategy: str) -> str:
    """As it is called in tables: of a config file its name."""
    return Path(strategy).stem if strategy.endswith(".json") else strategy


def arguments_for(wanted: Wanted, strategy: str) -> LaunchOptions:
    """The launch of one trial. Without a place for the strategy it is added, as ``--strategy``."""
    options = wanted.options
    values = {_NAME: shown(strategy), _CONFIG: strategy, _STEPS: str(wanted.steps)}
    filled = []
    for word in options.arguments:
        for place, value in values.items():
            word = word.replace(place, value)
        filled.append(word)
    if not options.script:
        filled += ["--strategy", strategy, "--steps", str(wanted.steps)]
        if not any(word.startswith("--eval_") for word in filled):
            filled += ["--eval_batches", "0"]
    elif not any(place in word for word in options.arguments for place in (_NAME, _CONFIG)):
        filled += ["--strategy", strategy]
    env = (f"CLUSTERCTL_MEASURE={COUNTED}", *options.env)
    return msgspec.structs.replace(options, arguments=tuple(filled), env=env)


def encode(record: Comparison) -> bytes:
    """As a file."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def read(path: Path) -> Comparison:
    """A record. Raises UsageError for what is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Comparison)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="name a comparison.json") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is no record of a comparison: {error}", hint="compare --json made it"
        ) from error


def _waited_for(run: Run) -> Outcome:
    """How it ended. Ctrl-C stops it, a second one at once."""
    try:
        return run.wait()
    except KeyboardInterrupt:
        try:
            return run.stop()
        except KeyboardInterrupt:
            return run.stop(now=True)


def _place(host: str, ranks: int, facts: Facts | None, *, virtual: bool) -> Place:
    if facts is None:
        return Place(host=host, ranks=ranks)
    gpus = facts.nvidia.gpus[:ranks]
    return Place(
        host=host,
        ranks=ranks,
        machine=facts.boot_id if not virtual else "sandbox",
        cores=facts.cpus or None,
        load=facts.load,
        gpus=tuple(gpu.name for gpu in gpus),
        memory=min((gpu.memory_total for gpu in gpus if gpu.memory_total), default=None),
    )

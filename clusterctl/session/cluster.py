"""The machines of a hostfile, as Python sees them: what the command line does, through the same code."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, get_args, overload

import msgspec

from clusterctl.ask import exec as asking
from clusterctl.ask.bundle import REMOTE_COMMAND
from clusterctl.ask.exec import Answer, OnAnswer, OnOutput
from clusterctl.errors import UsageError
from clusterctl.facts.lasting import Baseline
from clusterctl.inventory.clusters import NamedCluster
from clusterctl.inventory.model import HostfileWarning
from clusterctl.plan.model import LaunchPlan
from clusterctl.session import clusters, profiles, variables
from clusterctl.session import hosts as choosing
from clusterctl.session.hosts import Hosts
from clusterctl.session.options import Env, LaunchOptions, checked, env_options, filled, words_of
from clusterctl.session.progress import Progress, Silent
from clusterctl.session.target import Target
from clusterctl.settings import EXEC, SANDBOX, SSH
from clusterctl.store.home import make_home
from clusterctl.transport import Kind, Transport

if TYPE_CHECKING:
    from clusterctl.checks.evaluate import Report
    from clusterctl.checks.selection import Selection
    from clusterctl.session.detached import DetachedRun
    from clusterctl.session.examine import Examination
    from clusterctl.session.launch import Prepared
    from clusterctl.session.run import Run

_DEFAULTS = LaunchOptions()


class Answers(tuple[Answer, ...]):
    """What each host said to a command, in the order of the hosts."""

    __slots__ = ()

    @property
    def exit_code(self) -> int:
        """The highest of all hosts; 255 when one could not be asked."""
        return asking.worst(self)

    def of(self, host: str) -> Answer:
        """The answer of one host. Raises KeyError for one that was not asked."""
        for answer in self:
            if answer.host == host:
                return answer
        raise KeyError(host)


class Cluster:
    """Hosts with their slots, and how to reach them. Nothing is contacted before a method is called.

    Methods raise UsageError for what cannot be meant; a sick host is in their result, never an exception.
    """

    def __init__(
        self,
        hosts: Hosts,
        *,
        profile: str = "",
        venv_script: str = "",
        transport: Kind = "fabric",
        cluster: NamedCluster | None = None,
    ) -> None:
        if transport not in get_args(Kind):
            raise UsageError(f"transport {transport!r} does not exist", hint=f"one of {get_args(Kind)}")
        known = profiles.read(profile)
        if venv_script:
            known = profiles.activated_by(known, profile, venv_script)
        self.target = Target(
            hosts=hosts,
            profile=known,
            profile_name=profile,
            venv_script=venv_script,
            transport=transport,
            cluster=cluster,
        )
        self.warnings: tuple[HostfileWarning, ...] = (
            *hosts.inventory.warnings,
            *profiles.unknown_hosts(self.target.profile, profile, hosts.known),
        )
        """Lines of the hostfile and hosts of the profile that are not what they seem."""
        self._running: weakref.WeakSet[Run] = weakref.WeakSet()

    @classmethod
    def from_hostfile(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        include: str = "",
        exclude: str = "",
        nodes: int | None = None,
        gpus_per_node: int | None = None,
        profile: str = "",
        venv_script: str = "",
        ssh_config: str | os.PathLike[str] | None = None,
        ssh_port: int | None = None,
        transport: Kind = "fabric",
        cluster: str = "",
    ) -> Cluster:
        """The hosts of a hostfile; without ``path`` of the first default that there is, as on the command
        line. The other parameters are the options of the same names; ``cluster`` gives way to all of them."""
        named = clusters.named(cluster) if cluster else None
        if named is not None:
            path, profile = path or named.hostfile, profile or named.profile
        found = choosing.resolve(
            os.fspath(path) if path else None,
            nodes=nodes,
            gpus_per_node=gpus_per_node,
            include=include,
            exclude=exclude,
            ssh_config=os.fspath(ssh_config) if ssh_config else None,
            ssh_port=ssh_port,
        )
        if named is not None:
            found = msgspec.structs.replace(found, how=f"{named.how}\n{found.how}")
        return cls(found, profile=profile, venv_script=venv_script, transport=transport, cluster=named)

    @classmethod
    @contextmanager
    def sandbox(cls, nodes: int = SANDBOX.nodes, *, slots: int | Sequence[int] = 1) -> Iterator[Cluster]:
        """Virtual hosts on this machine with real sshd, gone at the end of the block. No other command sees
        them. Raises ClusterctlError where the machine does not allow any."""
        from clusterctl.sandbox.private import private_sandbox
        from clusterctl.sandbox.spec import numbered

        specs = numbered(nodes, (slots,) if isinstance(slots, int) else tuple(slots))
        with private_sandbox(specs) as box:
            cluster = cls(choosing.of_sandbox(box))
            try:
                yield cluster
            finally:
                for run in list(cluster._running):
                    run.stop(now=True)

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts, in the order of their node ranks."""
        return self.target.names

    @property
    def hosts(self) -> Hosts:
        """The selected hosts and where they were found."""
        return self.target.hosts

    def __repr__(self) -> str:
        return f"<Cluster {self.hosts.how.removeprefix('hosts: ')}>"

    def examine(
        self,
        *,
        env: Env = (),
        env_file: str = "",
        quick: bool = False,
        torch: bool = True,
        all_pairs: bool = False,
        thorough: bool = False,
        selection: Selection | None = None,
        baseline: Baseline | None = None,
        progress: Progress = Silent,
    ) -> Examination:
        """Ask every host about itself and, unless ``quick``, let them try one another: each all others with
        ``all_pairs``, else beyond 64 hosts a sample; ``thorough`` adds bandwidth and what idle GPUs do.
        `doctor` gives the judgement alone. ``selection`` says which rules judge the answers, None all of
        them, ``baseline`` how the hosts were."""
        from clusterctl.session.examine import examine

        layers = variables.read(self.target, env=env_options(env), env_file=env_file)
        link = self.target.connect()
        try:
            return examine(
                self.target,
                link,
                layers=layers,
                quick=quick,
                torch=torch,
                all_pairs=all_pairs,
                thorough=thorough,
                selection=selection,
                baseline=baseline,
                progress=progress,
            )
        finally:
            link.close()

    def doctor(
        self, *, env: Env = (), env_file: str = "", quick: bool = False, progress: Progress = Silent
    ) -> Report:
        """Is this a cluster that can train? ``quick``: facts only, no import of torch and no traffic."""
        return self.examine(env=env, env_file=env_file, quick=quick, progress=progress).report

    def exec(
        self,
        argv: Sequence[str],
        *,
        timeout: float = EXEC.timeout,
        on_output: OnOutput | None = None,
        on_answer: OnAnswer | None = None,
    ) -> Answers:
        """Run one command on all hosts; no shell reads it. ``timeout`` is seconds of the command itself.
        ``on_output(host, stream, data)`` hears of output as it comes, ``on_answer(host, answer)`` of the end
        of each."""
        words = words_of(argv, "argv")
        if not words:
            raise UsageError("no command to run", hint='cluster.exec(["nvidia-smi", "-L"])')
        link = self.target.connect()
        try:
            return Answers(
                asking.run(link, self.names, words, timeout=timeout, on_output=on_output, on_answer=on_answer)
            )
        finally:
            link.close()

    def plan(
        self,
        script: str | os.PathLike[str] = "",
        args: Iterable[object] = (),
        *,
        env: Env = (),
        options: LaunchOptions = _DEFAULTS,
        detach: bool = False,
        progress: Progress = Silent,
    ) -> LaunchPlan:
        """What `launch` would do: every host's command and variables. Starts nothing. Raises as `launch`."""
        wanted = filled(options, script, args, env)
        link = self._begin()
        try:
            from clusterctl.session.launch import prepare

            return prepare(self.target, link, wanted, to_start=False, detached=detach, progress=progress).plan
        finally:
            link.close()

    @overload
    def launch(
        self,
        script: str | os.PathLike[str] = "",
        args: Iterable[object] = (),
        *,
        env: Env = (),
        options: LaunchOptions = _DEFAULTS,
        detach: Literal[False] = False,
        progress: Progress = Silent,
    ) -> Run: ...

    @overload
    def launch(
        self,
        script: str | os.PathLike[str] = "",
        args: Iterable[object] = (),
        *,
        env: Env = (),
        options: LaunchOptions = _DEFAULTS,
        detach: Literal[True],
        progress: Progress = Silent,
    ) -> DetachedRun: ...

    def launch(
        self,
        script: str | os.PathLike[str] = "",
        args: Iterable[object] = (),
        *,
        env: Env = (),
        options: LaunchOptions = _DEFAULTS,
        detach: bool = False,
        progress: Progress = Silent,
    ) -> Run | DetachedRun:
        """Train on all hosts and return at once, with the run going on in a thread.

        ``script``, ``args`` and ``env`` replace or add to those of ``options``; without a script the shipped
        workload runs. With ``detach`` a process of its own supervises the run, which needs this one no more,
        and `launch` returns when every rank has started. Raises RefusedError when the hosts are not ready.
        """
        wanted = filled(options, script, args, env)
        if detach:
            from clusterctl.session.detached import DetachedRun

            prepared = self.prepare_detached(wanted, progress=progress)
            apart = DetachedRun.create(prepared)
            apart.start(prepared).await_up()
            return apart
        run = self.open_run(wanted, progress=progress)
        run.start()
        return run

    def _begin(self) -> Transport:
        """A way to the hosts, which are logged in to while what a launch needs is loaded here, and the code
        looked at: that takes as long."""
        link = self.target.connect()
        try:
            link.open_ahead(self.names, REMOTE_COMMAND, time.monotonic() + SSH.probe_timeout)
        except BaseException:
            link.close()
            raise
        return link

    def prepare_detached(self, options: LaunchOptions, *, progress: Progress = Silent) -> Prepared:
        """A run that another process is to start: for callers that show its plan before. Raises as `plan`."""
        options = checked(options)
        make_home()
        link = self._begin()
        try:
            from clusterctl.session.launch import prepare

            return prepare(self.target, link, options, to_start=False, detached=True, progress=progress)
        finally:
            link.close()

    def open_run(self, options: LaunchOptions, *, progress: Progress = Silent) -> Run:
        """As `launch`, but nothing has started: for callers that show the plan before ``Run.start``."""
        options = checked(options)
        make_home()
        link = self._begin()
        try:
            from clusterctl.session.launch import prepare

            prepared = prepare(
                self.target, link, options, to_start=True, meanwhile=_load_what_starts, progress=progress
            )
            from clusterctl.session.run import Run, make_directory

            run = Run(prepared.ready, link, make_directory(prepared))
        except BaseException:
            link.close()
            raise
        self._running.add(run)
        return run


def _load_what_starts() -> None:
    """It takes as long as hosts need to answer."""
    import clusterctl.checks.evaluate
    import clusterctl.session.launch_config
    import clusterctl.session.run  # noqa: F401

"""From what was asked to a plan: the code, the examination, the decision to start, the plan itself."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from clusterctl.ask.git import Look
from clusterctl.errors import UsageError
from clusterctl.facts.model import Facts
from clusterctl.inventory.fold import fold
from clusterctl.inventory.model import Host
from clusterctl.plan import activation, caches, defaults, flight_recorder, notes
from clusterctl.plan.build import build
from clusterctl.plan.model import Hangs, LaunchPlan, OnDisconnect, Request, Setting, Start
from clusterctl.plan.spares import split
from clusterctl.plan.variables import strongest
from clusterctl.run import notify
from clusterctl.session import variables, workload
from clusterctl.session.examine import Examination, examine, judged, load_what_judges
from clusterctl.session.hosts import Hosts
from clusterctl.session.intent import Intent, Ready
from clusterctl.session.options import LaunchOptions
from clusterctl.session.progress import Progress, Silent
from clusterctl.session.refused import NotReadyError, RefusedError
from clusterctl.session.sizes import log_limit
from clusterctl.session.target import Target
from clusterctl.settings import HANG, RUN
from clusterctl.store.home import new_run_id
from clusterctl.transport import Transport

if TYPE_CHECKING:
    from clusterctl.advise.lint.case import Linted


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A run that could start now, and what its plan was made from."""

    ready: Ready
    examination: Examination

    @property
    def plan(self) -> LaunchPlan:
        """That of its first attempt."""
        return self.ready.plan


def prepare(
    target: Target,
    link: Transport,
    options: LaunchOptions,
    *,
    to_start: bool,
    detached: bool = False,
    meanwhile: Callable[[], None] = load_what_judges,
    progress: Progress = Silent,
) -> Prepared:
    """Look at the code here and at the hosts, decide, plan. Nothing is started and nothing stays on a host.

    ``to_start``: the run follows over the same ``link``. ``detached``: a process of its own is to carry it
    out, which no terminal is part of. ``meanwhile`` is done here while hosts answer.
    Raises UsageError for what cannot be meant, before any host is asked, and RefusedError where the hosts
    cannot run it.
    """
    if detached and options.stdin:
        raise UsageError(
            "--stdin and --detach exclude each other: nobody would be left to read here",
            hint="give the script a file",
        )
    options, meant = workload.understood(options)
    if target.cluster is not None and target.cluster.engine and options.engine is None:
        options = msgspec.structs.replace(options, engine=target.cluster.engine)
    active, spares = split(target.hosts.inventory, options.spares)
    if meant is not None:
        meant.check(active)
    with progress(()) as asking:
        asking.awaiting("reading the code here", ())
        work = workload.resolve(options)
    tree = work.tree if options.script else None
    git = Look(Path(tree.root), tree.files) if tree is not None else None
    if options.resume and not workload.checkpoints_of(options)[0]:
        raise UsageError("--resume: from where?", hint="--checkpoint-dir DIR, where SCRIPT saves")
    intent = Intent(
        run=new_run_id(),
        target=target,
        options=options,
        workload=work,
        layers=variables.read(target, env=options.env, env_file=options.env_file, settings=options.settings),
        start=_start(options, simulated=target.hosts.simulated),
        log_limit=log_limit(options.log_limit),
        notes=_notes_before(options, meant.note if meant is not None else ""),
        launched_in=str(Path.cwd()) if options.on_end else "",
        pdsh_ssh_args=variables.pdsh_ssh_args(),
        detached=detached,
    ).with_hosts(active.hosts, spares)
    seen = look(intent, link, then_more=to_start, meanwhile=meanwhile, progress=progress)
    if git is not None:
        work = msgspec.structs.replace(work, code=msgspec.structs.replace(work.code, git=git.result()))
        intent = msgspec.structs.replace(intent, workload=work)
    intent, config = _with_config(intent, seen, link, progress)
    ready = ready_of(intent, seen, attempt=1)
    if config is not None and config.failing and not options.force:
        from clusterctl.session import launch_config

        raise RefusedError(
            f"not started: {launch_config.lines(config)[0]}",
            hint=f"{launch_config.way_out(config)}; --force starts all the same",
            examination=seen,
        )
    return Prepared(ready=ready, examination=seen)


def _notes_before(options: LaunchOptions, meant: str) -> tuple[str, ...]:
    """What is known before any host is asked."""
    found = (meant, notify.missing() if "desktop" in options.notify else "")
    return tuple(note for note in found if note)


def _with_config(
    intent: Intent, seen: Examination, link: Transport, progress: Progress
) -> tuple[Intent, Linted | None]:
    """Notes on the config that the script is given, where it is given one."""
    from clusterctl.session import launch_config

    inventory, facts = intent.target.hosts.inventory, seen.answers.facts
    own = {host: facts[host] for host in inventory.names if host in facts}
    found = launch_config.judged(intent.options, intent.workload, own, inventory.world_size, link, progress)
    if found is None:
        return intent, None
    notes = (*intent.notes, *launch_config.lines(found))
    return msgspec.structs.replace(intent, notes=notes), found


def ready_of(intent: Intent, seen: Examination, *, attempt: int) -> Ready:
    """The next attempt, by what was seen. Raises RefusedError where the hosts cannot run it."""
    offsets = {host: facts.clock_offset or 0.0 for host, facts in seen.answers.facts.items()}
    return Ready(plan=_plan(intent, seen, attempt=attempt), intent=intent, clock_offsets=offsets)


def look(
    intent: Intent,
    link: Transport,
    *,
    then_more: bool,
    meanwhile: Callable[[], None] = load_what_judges,
    progress: Progress,
    attempt: int = 1,
) -> Examination:
    """Examine the hosts of a run and, beyond them, its spares."""
    everybody = intent.with_hosts((*intent.target.hosts.inventory.hosts, *intent.spares), ()).target
    return examine(
        everybody,
        link,
        layers=intent.layers,
        torch=False,
        then_more=then_more,
        workdir=Path(intent.workload.code.root),
        preferred_port=RUN.preferred_master_port + attempt - 1,
        meanwhile=meanwhile,
        progress=progress,
    )


def without_spares(intent: Intent, seen: Examination, *but: Host) -> Examination:
    """The same, judged as if there were only the hosts that get ranks, and those named besides."""
    if not intent.spares:
        return seen
    inventory = intent.target.hosts.inventory
    hosts = (*inventory.hosts, *but)
    names = {host.name for host in hosts}
    answers, reached = seen.answers, seen.answers.reachability
    dials = tuple(dial for dial in reached.dials if {dial.source, dial.target} <= names)
    return judged(
        msgspec.structs.replace(
            seen.material,
            inventory=msgspec.structs.replace(inventory, hosts=hosts),
            settings={host: own for host, own in seen.settings.items() if host in names},
            answers=msgspec.structs.replace(
                answers,
                facts={host: facts for host, facts in answers.facts.items() if host in names},
                failures={host: why for host, why in answers.failures.items() if host in names},
                reachability=msgspec.structs.replace(reached, dials=dials),
            ),
        )
    )


def _plan(intent: Intent, everything: Examination, *, attempt: int) -> LaunchPlan:
    """Spares decide nothing. Raises RefusedError where the others cannot run it."""
    seen = without_spares(intent, everything)
    target, options, work = intent.target, intent.options, intent.workload
    checkpoint_dir, resume_arguments = workload.checkpoints_of(options)
    hosts, names = target.hosts, target.names
    _decide(hosts, seen, options)
    on_disconnect, alone = _on_disconnect(seen, intent)
    facts = seen.answers.facts
    given = defaults.of_hosts(hosts.inventory, facts, seen.settings, home_caches=options.home_caches)
    recorder = flight_recorder.settings(facts, given)
    request = Request(
        run=intent.run,
        attempt=attempt,
        start=intent.start,
        command=work.command,
        arguments=options.arguments,
        pass_local_rank=options.engine == "deepspeed" and options.local_rank,
        host_settings={host: strongest(given[host], recorder[host]) for host in names},
        removed={host: activation.removed(facts[host]) for host in names},
        workdirs={host: own for host in names if (own := target.profile.workdir_of(host))},
        code=work.code,
        pdsh_ssh_args=intent.pdsh_ssh_args,
        time_limit=options.time_limit,
        on_disconnect=on_disconnect,
        on_end=options.on_end,
        track=options.track,
        notify=options.notify,
        launched_in=intent.launched_in,
        caches={host: caches.place(facts[host]) for host in names},
        notes=(*_notes(intent, seen, given), *_of_spares(intent, everything), *alone),
        checkpoint_dir=checkpoint_dir,
        resume=options.resume,
        resume_arguments=resume_arguments,
        log_limit=intent.log_limit,
        hangs=_hangs(options),
        ssh_config=str(hosts.ssh_config.resolve()) if hosts.ssh_config else "",
        transport=target.transport,
        gpus={host: len(facts[host].nvidia.gpus) for host in facts},
        pythons={host: facts[host].python.executable for host in facts},
    )
    port = seen.answers.reachability.master_port or RUN.preferred_master_port
    return build(hosts.inventory, seen.network, request, master_port=port)


def _notes(intent: Intent, seen: Examination, given: Mapping[str, tuple[Setting, ...]]) -> tuple[str, ...]:
    told = notes.of_hosts(seen.answers.facts, seen.settings, home_caches=intent.options.home_caches)
    return (*intent.notes, *told, *variables.staying(given))


def _of_spares(intent: Intent, everything: Examination) -> list[str]:
    """Who stands by, and who cannot."""
    ready = []
    told = []
    for spare in intent.spares:
        seen = without_spares(intent, everything, spare)
        failing = [f.observed for f in seen.report.findings if f.severity == "fail" and spare.name in f.hosts]
        if failing or seen.network.of(spare.name) is None:
            why = failing[0] if failing else "it is not on the network of the others"
            told.append(f"the spare {spare.name} is not ready: {why}")
        else:
            ready.append(spare.name)
    return [f"spare: {fold(ready)} stands by for a host that is lost", *told] if ready else told


def _decide(hosts: Hosts, seen: Examination, options: LaunchOptions) -> None:
    """Whether to start. ``force`` overrules findings; without a network for all no plan can be made."""
    failing = [finding for finding in seen.report.findings if finding.severity == "fail"]
    connected = not seen.network.problem and len(seen.network.hosts) == len(hosts.inventory.hosts)
    if not connected or (failing and not options.force):
        first = failing[0].observed if failing else seen.network.problem or "a host gave no answer"
        raise NotReadyError(
            f"not started, the hosts are not ready: {first}",
            hint="`clusterctl doctor` shows everything there is to know",
            examination=seen,
        )
    needs = (not options.script or options.engine == "deepspeed") and not options.force
    without = _without("deepspeed", seen.answers.facts) if needs else []
    if without:
        python = seen.answers.facts[without[0]].python.executable
        raise RefusedError(
            f"not started: no deepspeed on {fold(without)} for {python}",
            hint=f"{python} -m pip install deepspeed there, or `python: /another/python` in a profile",
            examination=seen,
        )


def _on_disconnect(seen: Examination, intent: Intent) -> tuple[OnDisconnect, tuple[str, ...]]:
    """What the hosts do without a controller, and what is to be said of it. What goes on without one must
    lose nothing when its sessions end; as long as it holds them, nothing is taken. Raises RefusedError."""
    from clusterctl.checks.os.machine import taken_at_logout

    options = intent.options
    if intent.detached and options.spares and options.on_disconnect is None:
        gone = f"if the controller dies, the hosts end the run after {RUN.lease_attached:g} s"
        return "stop", (f"{gone}: no spare could take over from a host that may go on alone",)
    wanted = options.on_disconnect or ("continue" if intent.detached else "stop")
    facts = seen.answers.facts
    losing = [host for host in facts if taken_at_logout(facts[host])]
    if wanted == "stop" or not losing:
        return wanted, ()
    user = facts[losing[0]].user
    loss = f"on {fold(losing)} logind takes {taken_at_logout(facts[losing[0]])} away"
    cure = f"sudo loginctl enable-linger {shlex.quote(user)}"
    if options.force:
        return wanted, (f"{loss} when no SSH session is left, as when this controller dies; cure: {cure}",)
    if options.on_disconnect is None:
        gone = f"if the controller dies, the hosts end the run after {RUN.lease_attached:g} s"
        return "stop", (f"{gone}, for {loss} then; with {cure} there they would go on",)
    raise RefusedError(
        f"not started: it could not go on without its controller, for {loss} when no SSH session is left",
        hint=f"{cure} there, or --on-disconnect stop; --force starts all the same",
        examination=seen,
    )


def _hangs(options: LaunchOptions) -> Hangs:
    timeout = HANG.timeout if options.hang_timeout is None else options.hang_timeout
    return Hangs(timeout=timeout, learned=options.hang_timeout is None, action=options.on_hang)


def _without(package: str, facts: Mapping[str, Facts]) -> list[str]:
    return [host for host, of_host in facts.items() if package not in of_host.python.packages]


def _start(options: LaunchOptions, *, simulated: bool) -> Start:
    """DeepSpeed's launcher goes over pdsh where this machine has both; hosts that share one /tmp cannot."""
    if options.engine != "deepspeed":
        return "torchrun"
    missing = "" if shutil.which("pdsh") else "this machine has no pdsh"
    missing = missing or ("" if importlib.util.find_spec("deepspeed") else "this Python has no deepspeed")
    missing = missing or ("loopback hosts share one /tmp" if simulated else "")
    if missing and options.pdsh:
        raise UsageError(
            f"--launcher pdsh: {missing}", hint="--engine deepspeed starts it on every host without pdsh"
        )
    return "deepspeed-no-ssh" if missing else "deepspeed-pdsh"

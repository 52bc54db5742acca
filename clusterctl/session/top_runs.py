"""How far the runs of this machine are, and all that it knows of one host or rank."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import msgspec

from clusterctl.errors import ClusterctlError
from clusterctl.messages.top import Job
from clusterctl.report.harmless import last_state, plain_output
from clusterctl.report.pace import pace
from clusterctl.report.top import HostLine, Row, RunLine
from clusterctl.report.top_details import Details
from clusterctl.store.metrics import newest_steps
from clusterctl.store.runs import RunDirectory, all_runs
from clusterctl.store.sample import Sample
from clusterctl.store.samples import newest_samples

_READ = 16384
_SAID = 8


def runs_here(only: str = "") -> list[RunLine]:
    """Runs of this machine that go on, or the one named, as far as their directories say."""
    found = []
    for directory in all_runs():
        try:
            if directory.run == only or (not only and directory.running()):
                found.append(_run_line(directory))
        except (ClusterctlError, OSError):
            continue  # removed meanwhile, or another version's
    return found


def _run_line(directory: RunDirectory) -> RunLine:
    plan, outcome = directory.plan(), directory.outcome()
    steps = newest_steps(directory.path)
    return RunLine(
        run=plan.run,
        status=outcome.status if outcome else "running" if directory.supervised() else "interrupted",
        ranks=plan.world_size,
        hosts=len(plan.nodes),
        pace=pace(steps),
        losses=tuple(step.loss for step in steps if step.loss is not None),
        heard=(directory.path / "supervisor.json").stat().st_mtime,
        last=next(iter(_last_lines(directory.host_logs(plan.nodes[0].host) / plan.log_of(0), 1)), ""),
    )


def look_closer(
    row: Row, line: HostLine, heard: Sequence[Sample], now: float, *, way: Sequence[str]
) -> Details:
    """All that is known of what a row is about. ``line`` and ``heard``: its host now, and in the last
    minutes. ``way``: the words that go before the name of a host to get there."""
    job = row.job
    current = [
        each for each in (line.seen.jobs if line.seen else ()) if job is not None and each.pid == job.pid
    ]
    known = Details(
        line=line,
        gpu=row.gpu,
        job=current[0] if current else job,
        ended=job is not None and not current and not line.problem,
        samples=tuple(heard),
        commands=(shlex.join((*way, line.host)),),
        now=now,
    )
    mine = _of_run(line.host, job) if job is not None else None
    if mine is None:
        return known
    directory, rank = mine
    plan = directory.plan()
    place = f"{directory.run}:{rank}"
    return msgspec.structs.replace(
        known,
        samples=max(known.samples, tuple(newest_samples(directory, plan, line.host)), key=_span),
        said=tuple(_last_lines(directory.host_logs(line.host) / plan.log_of(rank), _SAID)),
        commands=(
            f"clusterctl ssh {place}",
            f"clusterctl py-spy {place}",
            f"clusterctl logs {directory.run} --rank {rank}",
        ),
    )


def _of_run(host: str, job: Job) -> tuple[RunDirectory, int] | None:
    """The run of this machine whose rank it says it is, if that is on this host."""
    if not job.run or job.rank is None:
        return None
    try:
        directory = next((each for each in all_runs() if each.run == job.run), None)
        known = directory is not None and any(
            node.host == host and job.rank in node.ranks for node in directory.plan().nodes
        )
    except (ClusterctlError, OSError):
        return None
    return (directory, job.rank) if directory is not None and known else None


def _span(samples: Sequence[Sample]) -> float:
    return samples[-1].time - samples[0].time if samples else -1.0


def _last_lines(log: Path, most: int) -> list[str]:
    """What a log ends with, in the last state of lines that a progress bar rewrites; none where there is no
    log."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - _READ))
            lines = stream.read().splitlines()
    except OSError:
        return []
    found: list[str] = []
    for line in reversed(lines):
        if len(found) == most:
            break
        if told := plain_output(last_state(line), colours=False).strip():
            found.append(told)
    return found[::-1]

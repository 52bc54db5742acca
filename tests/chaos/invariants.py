"""What must be true after a round, whatever happened in it."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import msgspec

from clusterctl.advise.explain import Explanation
from clusterctl.store.outcome import Cause, Outcome
from tests.chaos.hosts import ORDINARY, USER, Host, World
from tests.chaos.processes import Process
from tests.chaos.rounds import SUCCESS, Broken, Expected, Round

_CODES = {
    "succeeded": 0, "refused": 120, "lost": 121, "hung": 122, "stopped": 123, "timeout": 124, "error": 125,
}  # fmt: skip
_CUT = re.compile(rb"\n\[clusterctl: bytes (\d+) to (\d+) of this log were cut out: [^\n]*\]\n")


def check(r: Round, expected: Expected) -> None:
    """The launch, or `attach`, returns; exit code, outcome, screen and logs are right; nothing is left."""
    code = r.returns()
    r.note(f"exit code {code}")
    outcome = r.outcome() if expected.outcome else None
    if code not in expected.codes:
        raise Broken(f"exit code {code}, not one of {expected.codes}; {_short(outcome)}")
    if outcome is not None:
        _check_outcome(outcome, code, expected)
    _check_screen(r, outcome, code)
    if expected.logs and outcome is not None:
        _check_logs(r, outcome)
    _check_nothing_left(r, expected.settles)


def check_other_commands(r: Round, expected: Expected) -> None:
    """`why` tells the same cause and no other, `sweep` finds nothing that was left."""
    why = r.ask("why", "--json", r.directory.name) if expected.outcome else None
    sweep = r.ask("sweep", "--dry-run", "-H", str(r.world.hostfile_with_spares))
    if why is not None:
        _check_why(r, why(), r.said[-1])
    code = sweep()
    hosts = f"metal[1-{len(r.world.every)}]"
    if code or f"\n{hosts}: nothing is left\n" not in f"\n{r.said[-1]}" or "let alone" in r.said[-1]:
        raise Broken(f"sweep ended with {code}: {r.said[-1]}")


def check_secrets_gone(r: Round) -> None:
    for host in r.world.every:
        found = list(host.see(f"/home/{USER}/.clusterctl").glob("node/*/*/job.json"))
        if found:
            raise Broken(f"{host.name}: job.json, with its environment in clear, was left")


def check_neighbours(r: Round) -> None:
    """Another job of the same user, on each host, lives and was never signalled."""
    for host in r.world.every:
        for each in host.neighbours:
            if harm := each.harm():
                raise Broken(f"another job of {each.name} on {host.name}: {harm}")


def check_next_launch(r: Round) -> None:
    clean(r.world)
    r.real, r.detached = False, False
    r.launch(3)
    check(r, SUCCESS)


def clean(world: World) -> None:
    """Forget earlier runs, here and on the hosts."""
    shutil.rmtree(world.home / "runs", ignore_errors=True)
    for host in world.every:
        # A run whose controller never came back is kept for it.
        for user in (USER, ORDINARY):
            shutil.rmtree(host.see(f"/home/{user}/.clusterctl/node"), ignore_errors=True)
        for path in host.see("/tmp").glob("printed-*"):
            path.unlink()


def keep(r: Round, folder: Path) -> None:
    """Save what is needed to understand a broken round."""
    folder.mkdir(parents=True, exist_ok=True)
    if r.screen.exists():
        shutil.copy(r.screen, folder / "screen.txt")
    (folder / "commands.txt").write_text("\n---\n".join(r.said))
    for run in (r.world.home / "runs").glob("[0-9]*"):
        shutil.copytree(run, folder / run.name, dirs_exist_ok=True)
    for host in r.world.every:
        lines = [f"{each.pid} {each.parent} {each.command}" for each in host.processes()]
        (folder / f"{host.name}.processes").write_text("\n".join(lines) + "\n")
        shutil.copy(r.world.folder / host.name / "sshd.log", folder / f"{host.name}.sshd.log")
        home = host.see(f"/home/{USER}/.clusterctl")
        if home.exists():
            shutil.copytree(home, folder / host.name, dirs_exist_ok=True, ignore_dangling_symlinks=True)


def _check_outcome(outcome: Outcome, code: int, expected: Expected) -> None:
    if code >= 0 and outcome.exit_code != code:
        raise Broken(f"exit code {code}, but outcome.json says {outcome.exit_code}")
    if outcome.exit_code != _CODES.get(outcome.status, outcome.exit_code) or (
        outcome.status == "failed" and outcome.exit_code == 0
    ):
        raise Broken(f"{outcome.status} with exit code {outcome.exit_code}")
    _check_cause(outcome.cause, expected, _short(outcome))
    if expected.earlier is None:
        return
    before = outcome.attempts[:-1]
    if len(before) != len(expected.earlier):
        raise Broken(
            f"{len(before)} attempts before the last, not {len(expected.earlier)}; {_short(outcome)}"
        )
    for attempt, wanted in zip(before, expected.earlier, strict=True):
        _check_cause(attempt.cause, wanted, f"attempt {attempt.attempt}: {_in_words(attempt.cause)}")
        if attempt.exit_code not in wanted.codes:
            raise Broken(f"attempt {attempt.attempt}: exit code {attempt.exit_code}, not {wanted.codes}")


def _check_cause(cause: Cause | None, expected: Expected, said: str) -> None:
    if cause is None:
        if 0 not in expected.codes:
            raise Broken(f"no cause: {said}")
        return
    if cause.kind not in expected.kinds:
        raise Broken(f"cause {said}, kind not one of {expected.kinds}")
    if expected.host and cause.host != expected.host:
        raise Broken(f"cause {said}, host not {expected.host}")
    if expected.blames is not None and bool(cause.host) is not expected.blames:
        raise Broken(f"cause {said}: {'no host' if expected.blames else 'a host'} is blamed")
    if expected.rank is not None and cause.rank != expected.rank:
        raise Broken(f"cause {said}, rank not {expected.rank}")


def _check_screen(r: Round, outcome: Outcome | None, code: int) -> None:
    text = r.screen.read_text(errors="replace") if r.screen.exists() else ""
    if re.search(r"^Traceback", text, re.MULTILINE):
        raise Broken("a traceback of the product on the screen")
    if re.search("\x1b[]P_^]|\x1b\\[2J", text):
        raise Broken("a host's escape sequences on the screen")
    ends = re.findall(r"^[✗✓] (\w+) after ", text, re.MULTILINE)
    if outcome is not None and code >= 0 and r.read and ends != [outcome.status]:
        raise Broken(f"the screen ends with {ends}, not once with {outcome.status}")


def _check_logs(r: Round, outcome: Outcome) -> None:
    """What a rank printed is here: all of it, or as far as its host is named as incomplete, or the log as cut
    to its limit. That is byte for byte, but for what came into a log besides, such as a traceback."""
    said = {*outcome.incomplete_logs, *(host for each in outcome.attempts for host in each.incomplete_logs)}
    for host in r.world.every:
        for printed in host.see("/tmp").glob("printed-*"):
            name = f"rank-{printed.name.removeprefix('printed-')}.log"
            log = r.directory / "logs" / host.name / name
            here = log.read_bytes() if log.exists() else b""
            wrote = printed.read_bytes()
            if cut := _CUT.search(here):
                _check_cut(f"{host.name}/{name}", wrote, here, cut, outcome)
                continue
            missing = _missing(wrote, here)
            if missing and host.name not in said:
                raise Broken(f"{host.name}/{name} lacks {missing} of the {wrote.count(10)} lines it printed")


def _check_cut(name: str, wrote: bytes, here: bytes, cut: re.Match[bytes], outcome: Outcome) -> None:
    head, resume = int(cut[1]), int(cut[2])
    if outcome.cut_logs.get(name) != resume - head:
        raise Broken(f"{name} was cut, but outcome.json says {outcome.cut_logs}")
    if here[: cut.start()] != wrote[:head]:
        raise Broken(f"the beginning of {name}, up to its cut at {head}, is not what was printed")
    if _missing(wrote[resume:].partition(b"\n")[2], here[cut.end() :]):
        raise Broken(f"{name} lacks lines behind its cut, from {resume} on")


def _missing(wrote: bytes, here: bytes) -> int:
    lines = iter(here.splitlines())
    return sum(line not in lines for line in wrote.splitlines()[:-1])  # the last may not have been printed


def _check_nothing_left(r: Round, settles: float) -> None:
    until = time.monotonic() + settles
    while True:
        left = [f"here: {each.command[:100]}" for each in r.controllers()]
        for host in r.world.every:
            processes = [each for each in host.processes() if not _belongs(each, host)]
            left += [f"{host.name}: {each.command[:100] or each.pid}" for each in processes]
            left += [f"{host.name}: lock {lock}" for lock in host.locks()]
        if not left:
            return
        if time.monotonic() > until:
            raise Broken(f"left behind: {left}")
        time.sleep(0.2)


def _belongs(process: Process, host: Host) -> bool:
    """Whether a process was there before any launch: the host's first with its `sleep`, and its sshd."""
    if process.pid == host.root or "sshd_config" in process.command or "[listener]" in process.command:
        return True
    return process.parent == host.root and process.command in ("sleep 1", "bash", "")


def _check_why(r: Round, code: int, said: str) -> None:
    if code:
        raise Broken(f"why ended with {code}: {said}")
    found = msgspec.json.decode(said, type=Explanation)
    outcome = r.outcome()
    if (found.status, found.cause) != (outcome.status, outcome.cause):
        raise Broken(f"why says {found.status}, {_in_words(found.cause)}; {_short(outcome)}")
    # Ranks that all do the same wrong thing are told as one.
    others = [echo for echo in found.cascades if echo.role == "root" and echo.means != "the same"]
    if found.suspects or others:
        raise Broken(f"why names more than one cause: {[*found.suspects, *others]}; {_short(outcome)}")


def _short(outcome: Outcome | None) -> str:
    return f"{outcome.status}: {_in_words(outcome.cause)}" if outcome is not None else "no outcome"


def _in_words(cause: Cause | None) -> str:
    if cause is None:
        return "no cause"
    return f"{cause.kind} on {cause.host or '-'} rank {cause.rank}: {cause.message}"

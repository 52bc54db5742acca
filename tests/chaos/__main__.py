"""A campaign of faults, as root: `python -m tests.chaos --seed N --rounds M [--kinds rank-killed,link-cut]`

Two hosts and a spare made by hand (namespaces, sshd, keys, homes on small disks of their own), `clusterctl`
as a user types it, one fault in each round, then what `invariants.py` asks: launch returns, exit code, cause,
logs and outcome are right, `why` and `sweep` agree, nothing is left, other jobs of the same user live. That
the next launch works is seen in the next round, and after the last one in one that succeeds. A share of the
rounds, ``--real``, run torchrun or deepspeed and DDP over gloo; the others a stand-in for torchrun that only
forks the ranks (`standin/`), and ranks that need no torch. `--kills N`: only ranks that fail, N times.
`--lanes N`: N sets of hosts at once. `--write` puts the table of all rounds in ``--results``, these and
earlier ones, into docs/reliability.md. A broken round prints the command that repeats it, and keeps what it
left.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import msgspec

from tests.chaos import results
from tests.chaos.faults import FAULTS, KILLS
from tests.chaos.hosts import UNSHARE, World, fetch_sshd
from tests.chaos.invariants import (
    check,
    check_neighbours,
    check_next_launch,
    check_other_commands,
    check_secrets_gone,
    clean,
    keep,
)
from tests.chaos.loaded import load
from tests.chaos.results import Result
from tests.chaos.rounds import Broken, Round

INSIDE = "CHAOS_INSIDE"
HOSTS, SPARES = 2, 1
SHOWN = 4000
KEPT_FOR_A_CONTROLLER = ("controller-killed-for-good", "agent-stands-still-alone")
"""After these a host still has what another controller would need."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="A campaign of faults on hosts made by hand."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kinds", default="", help=f"some of: {', '.join(FAULTS)}")
    parser.add_argument("--each", action="store_true", help="one round of each kind, in order")
    parser.add_argument("--kills", type=int, default=0, help="so many rounds in which a rank fails")
    parser.add_argument("--real", type=float, default=0.2, help="share of rounds with torch and its engines")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--lanes", type=int, default=1, help="so many sets of hosts at once")
    parser.add_argument(
        "--results", type=Path, default=Path("build/chaos.jsonl"), help="one more line for each round"
    )
    parser.add_argument("--write", action="store_true", help="put their table into docs/reliability.md")
    parser.add_argument("--show", action="store_true", help="what each round's launch printed at last")
    parser.add_argument(
        "--keep", type=Path, default=Path("chaos-broken"), help="where broken rounds are kept"
    )
    options = parser.parse_args()
    kinds = [kind for kind in options.kinds.split(",") if kind]
    if unknown := [kind for kind in kinds if kind not in FAULTS]:
        parser.error(f"no such kind: {', '.join(unknown)}")
    for ignored in (signal.SIGINT, signal.SIGHUP):  # as in a background job or under nohup; rounds send both
        if signal.getsignal(ignored) is signal.SIG_IGN:
            signal.signal(ignored, signal.SIG_DFL)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    if INSIDE not in os.environ:
        return side_by_side(options)
    # The first process of a namespace is deaf to what it does not handle: `timeout` would end its hosts only.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    lane = int(os.environ[INSIDE])
    return campaign(drawn(options, kinds)[lane :: options.lanes], options)


def drawn(options: argparse.Namespace, kinds: list[str]) -> list[tuple[int, str]]:
    """(seed, kind) of each round."""
    weights = KILLS if options.kills else FAULTS
    kinds = kinds or list(weights)
    if options.each:
        return [(options.seed, kind) for kind in kinds]
    plan = []
    for seed in range(options.seed, options.seed + (options.kills or options.rounds)):
        every = [({**FAULTS, **weights})[kind][0] for kind in kinds]
        plan.append((seed, random.Random(seed).choices(kinds, every)[0]))
    return plan


def side_by_side(options: argparse.Namespace) -> int:
    """Each lane in namespaces of its own, and with hosts of its own."""
    fetch_sshd()  # there is no way out of the namespaces
    options.results.parent.mkdir(parents=True, exist_ok=True)
    own = [*UNSHARE, "--net", "--mount", "--pid", "--ipc", "--mount-proc"]
    argv = [*own, sys.executable, "-u", "-m", "tests.chaos", *sys.argv[1:]]
    lanes = [
        subprocess.Popen(argv, env=os.environ | {INSIDE: str(lane)}, start_new_session=True)
        for lane in range(options.lanes)
    ]

    def told(number: int, _: object) -> None:
        for lane in lanes:
            os.killpg(lane.pid, number)  # `unshare` itself is deaf

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    codes = [lane.wait() for lane in lanes]
    found = results.read(options.results)
    print("\n".join(results.table(found)))
    if options.write:
        results.write(found)
    return max(codes, key=abs)


def campaign(plan: list[tuple[int, str]], options: argparse.Namespace) -> int:
    broken, tried = 0, results.commit()
    load()
    world: World | None = None
    try:
        for number, (seed, kind) in enumerate(plan, 1):
            if world is None:
                world = World(Path(tempfile.mkdtemp(prefix="chaos-", dir="/var/tmp")), options.slots)
                world.build(HOSTS, SPARES)
            result = one(world, seed, kind, options, last=number == len(plan))
            results.append(options.results, msgspec.structs.replace(result, commit=tried))
            if result.trouble:
                broken += 1
                world.close()
                world = None
    finally:
        if world is not None:
            world.close()
    return 1 if broken else 0


def one(world: World, seed: int, kind: str, options: argparse.Namespace, *, last: bool) -> Result:
    """Play a round, tell how it went, and keep what it left if it broke."""
    rng = random.Random(f"{seed} {kind}")
    found = Round(world, rng, rng.random() < options.real, options.slots)
    began = time.monotonic()
    trouble = play(found, kind, last=last, show=options.show)
    took = time.monotonic() - began
    engine = found.engines[0] if found.engines else ""
    print(f"{'BROKEN' if trouble else 'ok':6} {seed} {kind} ({engine}) {took:.0f} s {'; '.join(found.notes)}")
    if trouble:
        place = options.keep / f"{seed}-{kind}"
        try:
            keep(found, place)
        except (OSError, shutil.Error) as error:
            print(f"       could not keep all of it: {str(error)[:200]}")
        again = f"--seed {seed} --rounds 1 --kinds {kind} --real {options.real} --slots {options.slots}"
        print(f"       {trouble}\n       kept in {place}; again: python -m tests.chaos {again}")
    found.end()
    day = results.today()
    return Result(seed=seed, kind=kind, engine=engine, seconds=took, trouble=trouble, day=day)


def play(found: Round, kind: str, *, last: bool, show: bool = False) -> str:
    """What is broken after a round of this kind; nothing when all holds. ``last``: no other launch on these
    hosts would tell whether one still works."""
    fault = FAULTS[kind][1]
    try:
        clean(found.world)
        expected = fault(found)
        if show:
            found.returns()
            print(found.screen.read_text(errors="replace")[-SHOWN:], *found.said, sep="\n--- also:\n")
        check(found, expected)
        if kind not in KEPT_FOR_A_CONTROLLER:
            check_secrets_gone(found)
            check_other_commands(found, expected)
        check_neighbours(found)
        if last:
            check_next_launch(found)
    except Broken as problem:
        return str(problem)
    except (OSError, ValueError, KeyError, AssertionError, subprocess.SubprocessError):
        # The campaign's own fault: told as such, and the next round goes on.
        return f"the campaign itself: {traceback.format_exc()}"
    return ""


if __name__ == "__main__":
    sys.exit(main())

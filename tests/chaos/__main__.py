"""A campaign of faults, as root: `python -m tests.chaos --seed N --rounds M [--kinds rank-killed,link-cut]`

Two hosts made by hand (namespaces, sshd, keys, homes on small disks of their own), `clusterctl` as a user
types it, one fault in each round, then: launch returns, exit code and cause are right, nothing is left, logs
are complete, the next launch works. A share of the rounds, ``--real``, run torchrun and DDP over gloo; the
others a stand-in for torchrun that only forks the ranks (`standin/`), and ranks that need no torch.
`--kills N`: only ranks that fail, N times. A broken round prints the command that repeats it, and keeps what
it left.
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
from collections import Counter
from pathlib import Path

from tests.chaos.faults import FAULTS, KILLS
from tests.chaos.hosts import UNSHARE, World, fetch_sshd
from tests.chaos.rounds import Broken, Round, clean, keep

INSIDE = "CHAOS_INSIDE"
HOSTS = 2
SHOWN = 4000


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="A campaign of faults on hosts made by hand."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kinds", default="", help=f"some of: {', '.join(FAULTS)}")
    parser.add_argument("--each", action="store_true", help="one round of each kind, in order")
    parser.add_argument("--kills", type=int, default=0, help="so many rounds in which a rank fails")
    parser.add_argument("--real", type=float, default=0.1, help="share of rounds with torchrun and DDP")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="what each round's launch printed at last")
    parser.add_argument(
        "--keep", type=Path, default=Path("chaos-broken"), help="where broken rounds are kept"
    )
    options = parser.parse_args()
    drawn = KILLS if options.kills else FAULTS
    kinds = [kind for kind in options.kinds.split(",") if kind] or list(drawn)
    if unknown := [kind for kind in kinds if kind not in FAULTS]:
        parser.error(f"no such kind: {', '.join(unknown)}")
    for ignored in (signal.SIGINT, signal.SIGHUP):  # as in a background job or under nohup; rounds send both
        if signal.getsignal(ignored) is signal.SIG_IGN:
            signal.signal(ignored, signal.SIG_DFL)
    if INSIDE not in os.environ:
        fetch_sshd()  # there is no way out of the namespaces
        own = [*UNSHARE, "--net", "--mount", "--pid", "--ipc", "--mount-proc"]
        os.environ[INSIDE] = "1"
        os.execvp("unshare", [*own, sys.executable, "-u", "-m", "tests.chaos", *sys.argv[1:]])
    # The first process of a namespace is deaf to what it does not handle: `timeout` would end its hosts only.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    plan = [(options.seed, kind) for kind in kinds] if options.each else []
    for number in range(0 if options.each else options.kills or options.rounds):
        seed = options.seed + number
        weights = [({**FAULTS, **drawn})[kind][0] for kind in kinds]
        plan.append((seed, random.Random(seed).choices(kinds, weights)[0]))
    return campaign(plan, options)


def campaign(plan: list[tuple[int, str]], options: argparse.Namespace) -> int:
    done: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    world: World | None = None
    try:
        for seed, kind in plan:
            if world is None:
                world = World(Path(tempfile.mkdtemp(prefix="chaos-", dir="/var/tmp")), options.slots)
                world.build(HOSTS)
            rng = random.Random(f"{seed} {kind}")
            found = Round(world, rng, rng.random() < options.real, options.slots)
            name = f"{kind} (real)" if found.real else kind
            held = one(found, seed, kind, name, options)
            done[name] += 1
            if not held:
                broken[name] += 1
                world.close()
                world = None
    finally:
        print(f"{sum(done.values())} rounds, {sum(broken.values())} broken")
        for name in sorted(done):
            print(f"  {name:36} {done[name]:4} {broken[name] or ''}")
        if world is not None:
            world.close()
    return 1 if broken else 0


def one(found: Round, seed: int, kind: str, name: str, options: argparse.Namespace) -> bool:
    """Play a round, tell how it went, and keep what it left if it broke. Whether all held."""
    began = time.monotonic()
    trouble = play(found, kind, show=options.show)
    took = time.monotonic() - began
    print(f"{'BROKEN' if trouble else 'ok':6} {seed} {name} {took:.0f} s {'; '.join(found.notes)}")
    if trouble:
        place = options.keep / f"{seed}-{kind}"
        try:
            keep(found, place)
        except (OSError, shutil.Error) as error:
            print(f"       could not keep all of it: {str(error)[:200]}")
        again = f"--seed {seed} --rounds 1 --kinds {kind} --real {options.real} --slots {options.slots}"
        print(f"       {trouble}\n       kept in {place}; again: python -m tests.chaos {again}")
    found.end()
    return not trouble


def play(found: Round, kind: str, *, show: bool = False) -> str:
    """What is broken after a round of this kind; nothing when all holds."""
    fault = FAULTS[kind][1]
    try:
        clean(found.world)
        expected = fault(found)
        if show:
            found.returns()
            print(found.screen.read_text(errors="replace")[-SHOWN:], *found.said, sep="\n--- stop:\n")
        found.check(expected)
        if kind != "controller-killed-for-good":
            found.check_secrets_gone()
        found.check_next_launch()
    except Broken as problem:
        return str(problem)
    except (OSError, ValueError, KeyError, AssertionError, subprocess.SubprocessError):
        # The campaign's own fault: told as such, and the next round goes on.
        return f"the campaign itself: {traceback.format_exc()}"
    return ""


if __name__ == "__main__":
    sys.exit(main())

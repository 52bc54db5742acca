"""`clusterctl launch` beside torchrun by hand and `deepspeed` over pdsh, in one run on the same hosts.

    python bench/launch.py [--rounds 3] [--only first-step,fault,link,speed,idle] [--hosts 2 8]

first-step  from the command to the first training step
fault       from kill -9 of a rank on the last host until the command has returned and no rank is left
link        from the last host's link going down until the command has returned
speed       steps a second of a job, and the CPU time of its ranks
idle        what the controller of a run on 64 hosts costs while its ranks sleep

All hosts are sandbox hosts with real sshd on this machine, so they share its cores: the ratios count.
Every round runs each way once, in turn; what is not over after a minute is ended and printed as `> 60`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from starters import Starter, present

from clusterctl.sandbox import Sandbox
from clusterctl.sandbox.spec import numbered

PATIENCE = 60.0
_ports = iter(range(29600, 32000))
Measure = Callable[[Sandbox, Starter], float]


def first_step(sandbox: Sandbox, start: Starter) -> float:
    job = start(sandbox, ["--steps", "3"], next(_ports))
    seconds = job.line("step 1/")[0] - job.began
    until(lambda: job.clean(sandbox.hosts))
    job.end()
    return seconds


def fault(sandbox: Sandbox, start: Starter) -> float:
    job = start(sandbox, ["--steps", "1000000"], next(_ports))
    job.line("step 20/")
    last = sandbox.hosts[-1]
    last.run(["kill", "-9", *map(str, job.ranks(last))])
    began = time.monotonic()
    until(lambda: job.clean(sandbox.hosts))
    seconds = time.monotonic() - began
    job.end()
    return seconds


def link(sandbox: Sandbox, start: Starter) -> float:
    job = start(sandbox, ["--steps", "1000000"], next(_ports))
    job.line("step 20/")
    last = sandbox.hosts[-1]
    last.set_link("eth0", up=False)
    began = time.monotonic()
    until(lambda: job.clean(sandbox.hosts[:-1]))
    seconds = time.monotonic() - began
    last.set_link("eth0", up=True)
    job.end()
    return seconds


def speed(sandbox: Sandbox, start: Starter) -> float:
    """Seconds for a thousand steps."""
    job = start(sandbox, ["--steps", "600"], next(_ports))
    line = job.line(" steps/s, ")[1]
    until(lambda: job.clean(sandbox.hosts))
    job.end()
    return 1000.0 / float(line.partition(" steps/s, ")[0].split()[-1])


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)


MEASURES: dict[str, tuple[str, Measure]] = {
    "first-step": ("from the command to the first step", first_step),
    "fault": ("from a killed rank to no rank left", fault),
    "link": ("from a cut link to the end on the hosts that are left", link),
    "speed": ("a thousand steps", speed),
}


def table(title: str, times: dict[str, list[float]]) -> None:
    base = statistics.median(next(iter(times.values())))
    print(title)
    for name, each in times.items():
        median = statistics.median(each)
        rounds = ", ".join(_shown(one) for one in each)
        print(f"  {name:<26} {_shown(median):>6} s   {median / base:5.2f} x   ({rounds})")
    print(flush=True)


def _shown(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < PATIENCE else f"> {PATIENCE:.0f}"


def compare(hosts: int, names: Sequence[str], rounds: int) -> None:
    with Sandbox.create("bench", numbered(hosts, (1,))) as sandbox:
        ways = present()
        for start in ways.values():  # who comes first writes bytecode
            first_step(sandbox, start)
        for name in names:
            what, measure = MEASURES[name]
            times: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds):
                for way, start in ways.items():
                    times[way].append(measure(sandbox, start))
            table(f"{what}: {hosts} hosts, {os.cpu_count()} cores, median of {rounds} rounds", times)


def idle(hosts: int, seconds: float) -> None:
    """The controller of a run whose ranks sleep: CPU by share of one core, resident memory."""
    with Sandbox.create("bench", numbered(hosts, (1,))) as sandbox:
        argv = [
            sys.executable, "-m", "clusterctl", "launch", "-H", str(sandbox.hostfile), "--force", "--no-sync",
            "--no-python", "sleep", "100000",
        ]  # fmt: skip
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        until(lambda: process.poll() is not None or all(_sleeps(host.root) for host in sandbox.hosts))
        if process.poll() is not None:
            raise SystemExit(f"the idle run ended with {process.returncode}")
        time.sleep(5.0)
        controller = psutil.Process(process.pid)
        before = controller.cpu_times()
        time.sleep(seconds)
        after = controller.cpu_times()
        used = after.user + after.system - before.user - before.system
        print(f"a run on {hosts} hosts whose ranks sleep, {seconds:.0f} s: the controller takes")
        print(f"  {100 * used / seconds:.2f} % of a core, {controller.memory_info().rss / 2**20:.0f} MiB\n")
        process.terminate()
        process.wait()


def _sleeps(root: Path) -> bool:
    lines = [path.read_bytes() for path in (root / "proc").glob("[0-9]*/cmdline")]
    return any(line.startswith(b"sleep\0100000") for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--hosts", type=int, nargs="+", default=[2, 8], help="for the first step; all else: the least"
    )
    parser.add_argument("--only", default=",".join([*MEASURES, "idle"]), help="some of: %(default)s")
    parser.add_argument("--idle-hosts", type=int, default=64)
    args = parser.parse_args()
    wanted = args.only.split(",")
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    os.environ["CLUSTERCTL_HOME"] = str(home)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    try:
        for number, hosts in enumerate(sorted(args.hosts)):
            names = [name for name in MEASURES if name in wanted and (number == 0 or name == "first-step")]
            if names:
                compare(hosts, names, args.rounds)
        if "idle" in wanted:
            idle(args.idle_hosts, 30.0)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()

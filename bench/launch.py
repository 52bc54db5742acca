"""`clusterctl launch` beside torchrun by hand and `deepspeed` over pdsh, in one run on the same hosts.

    python bench/launch.py [--quick] [--rounds 3] [--only first-step,fault,link,speed,idle] [--hosts 2 8]

first-step  from the command to the first training step
fault       from kill -9 of a rank on the last host until the command has returned and no rank is left
link        from the last host's link going down until the command has returned
speed       a thousand steps of a job, and the CPU time that its ranks took for them
idle        what a run on 64 hosts costs while its ranks sleep, here and on each host

All hosts are sandbox hosts with real sshd on this machine, so they share its cores: the ratios count.
Every round runs each way once, in turn; what is not over after a minute is ended and printed as `> 60`.
With --quick, some five minutes in all: 2 hosts, DeepSpeed for the first step only, `> 25`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from starters import Starter, present

from clusterctl.sandbox import Sandbox, VirtualHost
from clusterctl.sandbox.spec import numbered

ROOT = Path(__file__).resolve().parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")
_ports = iter(range(29600, 32000))
_patience = 60.0
Measure = Callable[[Sandbox, Starter], tuple[float, ...]]


def first_step(sandbox: Sandbox, start: Starter) -> tuple[float, ...]:
    job = start(sandbox, ["--steps", "3"], next(_ports))
    seconds = job.line("step 1/")[0] - job.began
    until(lambda: job.clean(sandbox.hosts))
    job.end()
    return (seconds,)


def fault(sandbox: Sandbox, start: Starter) -> tuple[float, ...]:
    job = start(sandbox, ["--steps", "1000000"], next(_ports))
    job.line("step 20/")
    last = sandbox.hosts[-1]
    last.run(["kill", "-9", *map(str, job.ranks(last))])
    began = time.monotonic()
    until(lambda: job.clean(sandbox.hosts))
    seconds = time.monotonic() - began
    job.end()
    return (seconds,)


def link(sandbox: Sandbox, start: Starter) -> tuple[float, ...]:
    job = start(sandbox, ["--steps", "1000000"], next(_ports))
    job.line("step 20/")
    last = sandbox.hosts[-1]
    last.set_link("eth0", up=False)
    began = time.monotonic()
    until(lambda: job.clean(sandbox.hosts[:-1]))
    seconds = time.monotonic() - began
    last.set_link("eth0", up=True)
    job.end()
    return (seconds,)


def speed(sandbox: Sandbox, start: Starter) -> tuple[float, ...]:
    """Seconds for a thousand steps, and what all ranks used of the CPU for them."""
    steps = 800
    job = start(sandbox, ["--steps", str(steps), "--warm-up", "0"], next(_ports))
    rate, _, used = job.line(" steps/s, ")[1].partition(" steps/s, ")
    until(lambda: job.clean(sandbox.hosts))
    job.end()
    return 1000.0 / float(rate.split()[-1]), 1000.0 / steps * float(used.split()[0])


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _patience
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)


MEASURES: dict[str, tuple[tuple[str, ...], Measure]] = {
    "first-step": (("from the command to the first step",), first_step),
    "fault": (("from a killed rank to no rank left",), fault),
    "link": (("from a cut link to the end on the hosts that are left",), link),
    "speed": (("a thousand steps", "CPU time of all ranks for a thousand steps"), speed),
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
    return f"{seconds:.2f}" if seconds < _patience else f"> {_patience:.0f}"


def compare(hosts: int, names: Sequence[str], rounds: int, *, quick: bool) -> None:
    with Sandbox.create("bench", numbered(hosts, (1,))) as sandbox:
        every = present()
        for start in every.values():  # who comes first writes bytecode
            first_step(sandbox, start)
        for name in names:
            short = quick and name != "first-step"
            ways = {way: start for way, start in every.items() if not (short and "deepspeed" in way)}
            what, measure = MEASURES[name]
            times: dict[str, list[tuple[float, ...]]] = {way: [] for way in ways}
            count = 1 if quick and name == "link" else rounds
            for _ in range(count):
                for way, start in ways.items():
                    times[way].append(measure(sandbox, start))
            for number, title in enumerate(what):
                picked = {way: [one[number] for one in each] for way, each in times.items()}
                table(f"{title}: {hosts} hosts, {os.cpu_count()} cores, median of {count}", picked)


def idle(hosts: int, seconds: float) -> None:
    """A run whose ranks sleep: CPU by share of one core, resident memory. Its torchrun only forks them."""
    with Sandbox.create("bench", numbered(hosts, (1,))) as sandbox:
        argv = [
            sys.executable, "-m", "clusterctl", "launch", "-H", str(sandbox.hostfile), "--force", "--no-sync",
            "--profile", str(_without_torch(sandbox)), "--no-python", "sleep", "100000",
        ]  # fmt: skip
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        until(lambda: process.poll() is not None or all(_sleeps(host.root) for host in sandbox.hosts))
        if process.poll() is not None:
            raise SystemExit(f"the idle run ended with {process.returncode}")
        time.sleep(5.0)
        controller = psutil.Process(process.pid)
        before, nodes = controller.cpu_times(), [_node_cpu(host) for host in sandbox.hosts]
        time.sleep(seconds)
        after = controller.cpu_times()
        used = after.user + after.system - before.user - before.system
        spent = [_node_cpu(host) - earlier for host, earlier in zip(sandbox.hosts, nodes, strict=True)]
        print(f"a run on {hosts} hosts whose ranks sleep, {seconds:.0f} s: of a core")
        memory = controller.memory_info().rss / 2**20
        print(f"  the controller             {100 * used / seconds:6.2f} %   {memory:.0f} MiB")
        print(f"  a host, without its ranks  {100 * statistics.mean(spent) / seconds:6.2f} %\n", flush=True)
        process.terminate()
        process.wait()


def _without_torch(sandbox: Sandbox) -> Path:
    """The profile of a Python whose torchrun only forks: the real one takes gigabytes on so many hosts."""
    folder = sandbox.directory / "without-torch"
    venv.create(folder / "python", symlinks=True)
    (site,) = (folder / "python").glob("lib/python*/site-packages")
    shutil.copytree(ROOT / "tests/chaos/standin/torch", site / "torch")
    (folder / "profile.yaml").write_text(f"python: {folder}/python/bin/python\n")
    return folder / "profile.yaml"


def _node_cpu(host: VirtualHost) -> float:
    """Seconds that all processes there have used, with those of their children that have ended."""
    ticks = 0
    for pid in host.pids():
        with contextlib.suppress(OSError):
            fields = (host.root / "proc" / str(pid) / "stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


def _sleeps(root: Path) -> bool:
    lines = [path.read_bytes() for path in (root / "proc").glob("[0-9]*/cmdline")]
    return any(line.startswith(b"sleep\x00100000") for line in lines)


def main() -> None:
    global _patience
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--hosts", type=int, nargs="+", default=[2, 8], help="for the first step; all else: the least"
    )
    parser.add_argument("--only", default=",".join([*MEASURES, "idle"]), help="some of: %(default)s")
    parser.add_argument("--idle-hosts", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="some five minutes in all")
    args = parser.parse_args()
    if args.quick:
        args.hosts, args.rounds, _patience = [2], min(args.rounds, 2), 25.0
    wanted = args.only.split(",")
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    os.environ["CLUSTERCTL_HOME"] = str(home)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    try:
        for number, hosts in enumerate(sorted(args.hosts)):
            names = [name for name in MEASURES if name in wanted and (number == 0 or name == "first-step")]
            if names:
                compare(hosts, names, args.rounds, quick=args.quick)
        if "idle" in wanted:
            _patience = 300.0
            idle(args.idle_hosts, 30.0)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()

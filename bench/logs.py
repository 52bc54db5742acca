"""Logs of `clusterctl launch` beside `ssh HOST cat`, in one run on the same hosts.

    python bench/logs.py [--quick] [--hosts 4] [--ranks 2] [--megabytes 50] [--rounds 3]

lines    what training scripts print: numbers that differ from line to line
dense    base64, of which zlib takes little away
stop     from Ctrl-C, twice, until the command has returned, while all ranks print without end

Of launch the time counts from when the ranks begin to print until the last byte is on this machine's disk;
meanwhile it hashes, shows what ranks print (thrown away here) and keeps its hosts alive. CPU is that of this
machine's side: one process of launch, an ssh for each rank. Hosts are sandbox hosts, so both sides share the
cores: the ratios count.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from clusterctl.sandbox import Sandbox
from clusterctl.sandbox.spec import numbered

PATIENCE = 120.0
GO = "/tmp/bench-go"
SCRIPT = f"""
import os, random, sys, time
kind, megabytes, rank = sys.argv[1], int(sys.argv[2]), int(os.environ["RANK"])
random.seed(rank)
if kind == "dense":
    import base64
    block = base64.encodebytes(random.randbytes(1 << 20))[: (1 << 20) - 1] + b"\\n"
else:
    line = "step %9d loss %.6f grad %.4f lr %.2e tokens/s %6d"
    some = random.random
    lines = (line % (n, some(), 9 * some(), some(), random.randrange(10**6)) for n in range(20000))
    block = "\\n".join(lines).encode()[: (1 << 20) - 1] + b"\\n"
print("ready", flush=True)
while not os.path.exists("{GO}"): time.sleep(0.01)
while megabytes:
    left = block
    while left: left = left[os.write(1, left):]
    megabytes -= 1
if len(sys.argv) > 3: time.sleep(10**6)
"""


class Bench:
    def __init__(self, sandbox: Sandbox, ranks: int, megabytes: int, folder: Path) -> None:
        self.sandbox = sandbox
        self.ranks = ranks
        self.megabytes = megabytes
        self.folder = folder
        self.earlier: set[Path] = set()
        self.total = ranks * len(sandbox.hosts) * megabytes
        (folder / "prints.py").write_text(SCRIPT)

    @contextlib.contextmanager
    def launched(self, kind: str, megabytes: int) -> Iterator[subprocess.Popen[bytes]]:
        """A run whose ranks are ready; at the end it is stopped."""
        for host in self.sandbox.hosts:
            host.run(["rm", "-f", GO])
        argv = [
            sys.executable, "-m", "clusterctl", "launch", "-H", str(self.sandbox.hostfile), "--force",
            "--log-limit", "0", "prints.py", kind, str(megabytes), "stay",
        ]  # fmt: skip
        self.earlier = self.runs()
        with subprocess.Popen(
            argv, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        ) as process:
            until(
                lambda: process.poll() is not None or len(self.logs()) == self.ranks * len(self.sandbox.hosts)
            )
            if process.poll() is not None:
                raise SystemExit(f"launch ended with {process.returncode}")
            try:
                yield process
            finally:
                for _ in range(2):
                    if process.poll() is None:
                        process.send_signal(signal.SIGINT)
                        time.sleep(0.2)

    def logs(self) -> list[Path]:
        """Those of the newest run that hold anything."""
        newest = sorted(self.runs() - self.earlier)[-1:]
        return [log for run in newest for log in run.glob("logs/*/rank-*.log") if log.stat().st_size]

    def runs(self) -> set[Path]:
        return set((Path(os.environ["CLUSTERCTL_HOME"]) / "runs").glob("2*"))

    def go(self) -> None:
        for host in self.sandbox.hosts:
            host.run(["touch", GO])

    def launch(self, kind: str) -> tuple[float, float]:
        """(seconds, CPU seconds) until all that the ranks print is here."""
        with self.launched(kind, self.megabytes) as process:
            controller = psutil.Process(process.pid)
            before, began = cpu_of(controller), time.monotonic()
            self.go()
            wanted = (self.megabytes << 20) + len("ready\n")
            until(
                lambda: process.poll() is not None or all(log.stat().st_size == wanted for log in self.logs())
            )
            return time.monotonic() - began, cpu_of(controller) - before

    def cat(self, kind: str) -> tuple[float, float]:
        """The same bytes from files, an ssh for each."""
        make = f"import os; os.environ['RANK'] = '0'; open('{GO}', 'w').close()\n" + SCRIPT.replace(
            'print("ready", flush=True)', ""
        )
        for host in self.sandbox.hosts:
            text = f'exec {sys.executable} -c "$1" {kind} {self.megabytes} > /tmp/bench-log'
            host.run(["sh", "-c", text, "sh", make])
        before, began = usage(), time.monotonic()
        each = [
            subprocess.Popen(
                ["ssh", "-F", str(self.sandbox.ssh_config), host.name, "cat", "/tmp/bench-log"],
                stdin=subprocess.DEVNULL,
                stdout=(self.folder / f"{host.name}-{rank}").open("wb"),
            )
            for host in self.sandbox.hosts
            for rank in range(self.ranks)
        ]
        if any(process.wait() for process in each):
            raise SystemExit("ssh cat failed")
        seconds = time.monotonic() - began
        for path in self.folder.glob("*-*"):
            assert path.stat().st_size == self.megabytes << 20, path
            path.unlink()
        for host in self.sandbox.hosts:
            host.run(["rm", "-f", "/tmp/bench-log"])
        return seconds, usage() - before

    def stop(self) -> float:
        with self.launched("lines", 10**6) as process:
            self.go()
            time.sleep(3.0)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
            return time.monotonic() - began


def cpu_of(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def usage() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"not over after {PATIENCE:.0f} s")
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--ranks", type=int, default=2, help="on each host")
    parser.add_argument("--megabytes", type=int, default=50, help="of each rank")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a minute in all")
    wanted = parser.parse_args()
    if wanted.quick:
        wanted.hosts, wanted.ranks, wanted.megabytes, wanted.rounds = 2, 2, 30, 2
    with tempfile.TemporaryDirectory(prefix="cctl-") as name:
        folder = Path(name)
        os.environ["CLUSTERCTL_HOME"] = name
        (folder / "work").mkdir()
        with Sandbox.create("bench", numbered(wanted.hosts, (wanted.ranks,))) as sandbox:
            bench = Bench(sandbox, wanted.ranks, wanted.megabytes, folder / "work")
            for kind in ("lines", "dense"):
                found: dict[str, list[tuple[float, float]]] = {"launch": [], "ssh cat": []}
                for _ in range(wanted.rounds):
                    found["launch"].append(bench.launch(kind))
                    found["ssh cat"].append(bench.cat(kind))
                ranks = wanted.ranks * wanted.hosts
                where = f"{ranks} ranks on {wanted.hosts} hosts, {os.cpu_count()} cores"
                print(f"{kind}: {where}, {bench.total} MiB, median of {wanted.rounds} rounds")
                best = bench.total / statistics.median(one for one, _ in found["ssh cat"])
                for way, times in found.items():
                    seconds, cpu = (statistics.median(each) for each in zip(*times, strict=True))
                    rate = bench.total / seconds
                    rounds = ", ".join(f"{bench.total / one:.0f}" for one, _ in times)
                    each = 1000 * cpu / bench.total
                    ratio = f"{rate / best:5.2f} x"
                    print(f"  {way:<8} {rate:6.1f} MiB/s {ratio}  {each:6.1f} ms CPU per MiB  ({rounds})")
                print(flush=True)
            stops = [bench.stop() for _ in range(wanted.rounds)]
            print(f"stop: {statistics.median(stops):.1f} s  ({', '.join(f'{each:.1f}' for each in stops)})")


if __name__ == "__main__":
    main()

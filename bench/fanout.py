"""64 hosts asked at once: `clusterctl doctor --quick` beside clush and pdsh running `hostname`.

    python bench/fanout.py [--hosts 64] [--rounds 3]

All hosts are sandbox hosts with real sshd on this machine, so they share its cores with the clients: wall
times are upper bounds, the ratio is what counts. Each round runs every tool once, in turn.
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
from pathlib import Path

from clusterctl.sandbox import Sandbox
from clusterctl.sandbox.spec import numbered


def tools(sandbox: Sandbox) -> dict[str, list[str]]:
    """Name -> argv of everything there is to compare on this machine."""
    names = ",".join(host.name for host in sandbox.hosts)
    clusterctl = [sys.executable, "-m", "clusterctl"]
    found = {
        "clusterctl doctor --quick": [*clusterctl, "doctor", "--quick", "--json", str(sandbox.hostfile)],
        "clusterctl exec hostname": [*clusterctl, "exec", "-H", str(sandbox.hostfile), "--", "hostname"],
    }
    if clush := shutil.which("clush"):
        fan = str(len(sandbox.hosts))
        fan, config = str(len(sandbox.hosts)), f"-F {sandbox.ssh_config}"
        found["clush hostname"] = [clush, "-f", fan, "-o", config, "-w", names, "hostname"]
    if pdsh := shutil.which("pdsh"):
        found["pdsh hostname"] = [pdsh, "-R", "ssh", "-f", str(len(sandbox.hosts)), "-w", names, "hostname"]
    return found


def seconds(argv: list[str], sandbox: Sandbox) -> float:
    """Wall time of one call. Raises where it failed: a tool that gives up early must not look fast."""
    env = {**os.environ, "PDSH_SSH_ARGS_APPEND": f"-F {sandbox.ssh_config}"}
    began = time.monotonic()
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{argv[0]} ended with {done.returncode}: {done.stderr[-500:]}{done.stdout[-500:]}")
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    os.environ["CLUSTERCTL_HOME"] = str(home)
    try:
        with Sandbox.create("bench", numbered(args.hosts, (1,))) as sandbox:
            compared = tools(sandbox)
            times: dict[str, list[float]] = {name: [] for name in compared}
            for _ in range(args.rounds):
                for name, argv in compared.items():
                    times[name].append(seconds(argv, sandbox))
    finally:
        shutil.rmtree(home)
    base = statistics.median(times["clusterctl doctor --quick"])
    print(f"{args.hosts} hosts, {os.cpu_count()} cores, median of {args.rounds} rounds")
    for name, each in times.items():
        median = statistics.median(each)
        rounds = ", ".join(f"{one:.2f}" for one in each)
        print(f"  {name:<26} {median:6.2f} s   {median / base:5.2f} x   ({rounds})")
    for missing in {"clush", "pdsh"} - {name.split()[0] for name in times}:
        print(f"  {missing}: not on this machine")


if __name__ == "__main__":
    main()

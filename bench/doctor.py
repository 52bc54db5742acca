"""Doctor beside what else asks many hosts: `hostname` by clush, pdsh and two SSH libraries, facts by ansible
and pyinfra. All on the same hosts, in turn, in one run.

    python bench/doctor.py [--hosts 8 64 128] [--rounds 3] [--tools VENV] [--skip "doctor --thorough"]

The hosts are sandbox hosts with real sshd on this machine, so they share its cores with the clients: wall
times are upper bounds, and CPU is that of the controller's side alone (the tool and all its children). Of all
rounds the least counts, since whatever else runs here only adds. ``--tools`` is an environment that has
clush, ansible, pyinfra or asyncssh; what is nowhere to be found is named.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from clusterctl.sandbox import Sandbox
from clusterctl.sandbox.spec import numbered

BASE = "clush hostname"
_DOCTOR = "doctor"
_RAW = Path(__file__).with_name("raw_client.py")


class Cost(NamedTuple):
    wall: float
    cpu: float
    """Seconds of the tool and of its children."""


def tools(sandbox: Sandbox, places: str, folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """(name -> argv of everything there is to compare here, names of what is missing)."""
    names = [host.name for host in sandbox.hosts]
    count, config = str(len(names)), str(sandbox.ssh_config)
    clusterctl = [sys.executable, "-m", "clusterctl", _DOCTOR, str(sandbox.hostfile), "--json"]
    found = {"doctor --quick": [*clusterctl, "--quick"], "doctor": clusterctl}
    told = subprocess.run([*clusterctl[:4], "--help"], capture_output=True, text=True, check=True).stdout
    if "--thorough" in told:
        found["doctor --thorough"] = [*clusterctl, "--thorough"]
    (folder / "hosts.ini").write_text("".join(f"{name}\n" for name in names))
    data = {"ssh_config_file": config, "ssh_strict_host_key_checking": "yes"}
    (folder / "hosts.py").write_text(f"hosts = {[(name, data) for name in names]!r}\n")
    other = {
        "clush": [BASE, "-f", count, "-o", f"-F {config}", "-w", ",".join(names), "hostname"],
        "pdsh": ["pdsh hostname", "-S", "-R", "ssh", "-f", count, "-w", ",".join(names), "hostname"],
        "ansible": ["ansible -m setup", "all", "-i", f"{folder}/hosts.ini", "-m", "setup", "-f", count],
        "pyinfra": ["pyinfra facts", "-y", f"{folder}/hosts.py", "fact", "server.Hostname", "server.Os"],
    }
    missing = []
    for program, (name, *argv) in other.items():
        if path := shutil.which(program, path=places):
            found[name] = [path, *argv]
        else:
            missing.append(program)
    for library in ("asyncssh", "paramiko"):
        for python in (sys.executable, shutil.which("python3", path=places) or sys.executable):
            tried = subprocess.run([python, "-c", f"import {library}"], capture_output=True, check=False)
            if tried.returncode == 0:
                found[f"raw {library}"] = [python, str(_RAW), library, config, *names]
                break
        else:
            missing.append(library)
    return found, missing


def cost(name: str, argv: list[str], sandbox: Sandbox, folder: Path) -> Cost:
    """One call. Raises where it failed: a tool that gives up early must not look fast."""
    env = {
        **os.environ,
        "PDSH_SSH_ARGS_APPEND": f"-F {sandbox.ssh_config}",
        "ANSIBLE_SSH_ARGS": f"-F {sandbox.ssh_config} -o ControlMaster=no",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env.pop("SSH_AUTH_SOCK", None)
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        began = time.monotonic()
        process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        code = process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        said = out.read()
        if name.startswith(_DOCTOR):
            # Sandbox hosts share one clock and one disk, which is worth a word; but all must have answered.
            told = json.loads(said or "{}").get("hosts", {})
            failed = code not in (0, 1, 2) or len(told) != len(sandbox.hosts)
            failed = failed or not all(each["facts"] for each in told.values())
        else:
            failed = code != 0
        if failed:
            raise SystemExit(f"{name} ended with {code}: {err.read()[-800:]}{said[-800:]}")
    return Cost(wall, used.ru_utime + used.ru_stime)


def compare(count: int, rounds: int, places: str, skip: set[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        home = os.environ["CLUSTERCTL_HOME"] = f"{name}/home"
        Path(home).mkdir(mode=0o700)
        with Sandbox.create("bench", numbered(count, (1,))) as sandbox:
            compared, missing = tools(sandbox, places, Path(name))
            costs: dict[str, list[Cost]] = {each: [] for each in compared if each not in skip}
            cost("doctor --quick", compared["doctor --quick"], sandbox, Path(name))  # compiles, fills caches
            for _ in range(rounds):
                for each in costs:
                    costs[each].append(cost(each, compared[each], sandbox, Path(name)))
    walls = {each: min(one.wall for one in many) for each, many in costs.items()}
    base = walls.get(BASE)
    date = time.strftime("%Y-%m-%d %H:%M")
    print(f"{count} hosts, {os.cpu_count()} cores, {date}, the least of {rounds} rounds")
    print("                            wall   x clush   controller's CPU per host")
    for each, many in costs.items():
        ratio = f"{walls[each] / base:7.2f}" if base else "      -"
        cpu = 1000 * min(one.cpu for one in many) / count
        print(f"  {each:<20} {walls[each]:8.2f} s   {ratio}   {cpu:8.1f} ms", flush=True)
    for each in missing:
        print(f"  {each}: not on this machine")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[8, 64, 128])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tools", type=Path, help="an environment with more of the tools")
    parser.add_argument("--skip", nargs="+", default=[], metavar="NAME", help="as the table calls them")
    args = parser.parse_args()
    places = os.environ.get("PATH", os.defpath)
    if args.tools:
        places = f"{args.tools / 'bin'}{os.pathsep}{places}"
    for count in args.hosts:
        compare(count, args.rounds, places, set(args.skip))


if __name__ == "__main__":
    main()
